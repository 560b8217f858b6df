-- Orthanc sends every instance it stores to the modality named 'similis'.
-- In orthanc.json:
--   "DicomModalities": { "similis": ["SIMILIS", "127.0.0.1", 11112] },
--   "LuaScripts": ["/etc/orthanc/route.lua"]
-- Start Orthanc with TCP_NODELAY=1 in its environment: without it an association moves some
-- twenty instances a second.

function OnStoredInstance(instanceId, tags, metadata, origin)
   -- What Similis itself sent, its reports, must not go round in a circle.
   if origin['RequestOrigin'] == 'DicomProtocol' and origin['RemoteAet'] == 'SIMILIS' then
      return
   end
   SendToModality(instanceId, 'similis')
end
