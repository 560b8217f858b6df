-- Orthanc sends every instance it stores to the modality named 'similis'.
-- In orthanc.json:
--   "DicomModalities": { "similis": ["SIMILIS", "127.0.0.1", 11112] },
--   "LuaScripts": ["/etc/orthanc/route.lua"]
-- Start Orthanc with TCP_NODELAY=1 in its environment: without it an association moves some
-- twenty instances a second.

-- What comes from Similis must not go round in a circle: its reports, sent as SIMILIS, and what is
-- retrieved from it, sent as the AE title that was asked. These are its defaults.
local similis = { SIMILIS = true, SIMILIS_FIND = true, SIMILIS_TEXT = true,
                  SIMILIS_QR = true }

function OnStoredInstance(instanceId, tags, metadata, origin)
   if origin['RequestOrigin'] == 'DicomProtocol' and similis[origin['RemoteAet']] then
      return
   end
   SendToModality(instanceId, 'similis')
end
