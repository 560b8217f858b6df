"""From DICOM files to unit vectors: one tokeniser and one network for stills, volumes and cines."""
