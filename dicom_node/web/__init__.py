"""The HTTP listener: similar cases as JSON, and DICOMweb (PS3.18)."""
