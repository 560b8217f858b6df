"""The DICOM node: receives studies, answers with similar cases; puts the other houses together."""

PRODUCT = "Similis"
"""The name under which the node signs what it makes (Manufacturer, algorithm name)."""
