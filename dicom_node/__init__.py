"""The DICOM node: receives studies, answers with similar cases; puts the other houses together."""
