"""From a query to ranked cases, and to the DICOM objects that carry them."""
