"""The DICOM conformance statement (PS3.2 Annex N), written from the tables of the product."""
