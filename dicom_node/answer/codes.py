"""Every coded concept a report uses: the private scheme 99SIMILIS and the standard codes.

No standard code exists for similarity, rank or retrieval (PS3.16 Annex D), hence the private
scheme. A private code value is never given a second meaning.
"""

from dataclasses import dataclass

from pydicom.dataset import Dataset


@dataclass(frozen=True, slots=True)
class CodedConcept:
    """A code, the scheme it is from and its meaning (PS3.3 8.1)."""

    value: str
    scheme: str
    meaning: str


# --- private scheme ------------------------------------------------------------------------

SCHEME = "99SIMILIS"
SCHEME_VERSION = "1"

SIMILAR_CASES_REPORT = CodedConcept("SIM000", SCHEME, "Similar Cases Report")
SIMILAR_CASE = CodedConcept("SIM001", SCHEME, "Similar case")
REFERENCE_CASE = CodedConcept("SIM002", SCHEME, "Reference case")
SIMILARITY_SCORE = CodedConcept("SIM010", SCHEME, "Similarity score")
SIMILARITY_RANK = CodedConcept("SIM011", SCHEME, "Similarity rank")
SIMILARITY_CATEGORY = CodedConcept("SIM012", SCHEME, "Similarity category")
COSINE_SIMILARITY = CodedConcept("SIM020", SCHEME, "Cosine similarity of embeddings")
RANK_AMONG_RETRIEVED = CodedConcept("SIM021", SCHEME, "Rank among retrieved cases")
TEXT_SIMILARITY = CodedConcept("SIM022", SCHEME, "Text-to-image similarity")
MOST_SIMILAR_IMAGE = CodedConcept("SIM030", SCHEME, "Most similar image of reference case")
SUMMARY = CodedConcept("SIM040", SCHEME, "Similar cases summary")
QUERY_TEXT = CodedConcept("SIM041", SCHEME, "Query text")

PRIVATE_CODES = (
    SIMILAR_CASES_REPORT, SIMILAR_CASE, REFERENCE_CASE, SIMILARITY_SCORE, SIMILARITY_RANK,
    SIMILARITY_CATEGORY, COSINE_SIMILARITY, RANK_AMONG_RETRIEVED, TEXT_SIMILARITY,
    MOST_SIMILAR_IMAGE, SUMMARY, QUERY_TEXT,
)  # fmt: skip


def coding_scheme_identification() -> Dataset:
    """Return the item that declares the private scheme in a document (PS3.3 Table C.12-1)."""
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeName = "Similis similar case codes"
    item.CodingSchemeVersion = SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = "Similis"
    return item


# --- standard codes: document and context (TID 1500, 1001, 1004, 1204) -----------------------

IMAGING_MEASUREMENT_REPORT = CodedConcept("126000", "DCM", "Imaging Measurement Report")
LANGUAGE = CodedConcept("121049", "DCM", "Language of Content Item and Descendants")
ENGLISH = CodedConcept("en-US", "RFC5646", "English (United States)")
OBSERVER_TYPE = CodedConcept("121005", "DCM", "Observer Type")
DEVICE = CodedConcept("121007", "DCM", "Device")
DEVICE_UID = CodedConcept("121012", "DCM", "Device Observer UID")
DEVICE_NAME = CodedConcept("121013", "DCM", "Device Observer Name")
DEVICE_MANUFACTURER = CodedConcept("121014", "DCM", "Device Observer Manufacturer")
DEVICE_MODEL_NAME = CodedConcept("121015", "DCM", "Device Observer Model Name")
DEVICE_SERIAL_NUMBER = CodedConcept("121016", "DCM", "Device Observer Serial Number")
PROCEDURE_REPORTED = CodedConcept("121058", "DCM", "Procedure reported")
IMAGING_MEASUREMENTS = CodedConcept("126010", "DCM", "Imaging Measurements")
QUALITATIVE_EVALUATIONS = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
SOURCE_IMAGE = CodedConcept("121322", "DCM", "Source image for image processing operation")
ACQUISITION_EQUIPMENT = CodedConcept("109101", "DCM", "Acquisition Equipment")

# --- image library (TID 1600, 1602) ----------------------------------------------------------

IMAGE_LIBRARY = CodedConcept("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = CodedConcept("126200", "DCM", "Image Library Group")
SOURCE = CodedConcept("260753009", "SCT", "Source")
MODALITY = CodedConcept("121139", "DCM", "Modality")
FRAME_OF_REFERENCE_UID = CodedConcept("112227", "DCM", "Frame of Reference UID")
PIXEL_DATA_ROWS = CodedConcept("110910", "DCM", "Pixel Data Rows")
PIXEL_DATA_COLUMNS = CodedConcept("110911", "DCM", "Pixel Data Columns")

# --- measurement group (TID 1501, 4019, 300) --------------------------------------------------

MEASUREMENT_GROUP = CodedConcept("125007", "DCM", "Measurement Group")
TRACKING_IDENTIFIER = CodedConcept("112039", "DCM", "Tracking Identifier")
TRACKING_UID = CodedConcept("112040", "DCM", "Tracking Unique Identifier")
FINDING = CodedConcept("121071", "DCM", "Finding")
ALGORITHM_NAME = CodedConcept("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = CodedConcept("111003", "DCM", "Algorithm Version")
ALGORITHM_MANUFACTURER = CodedConcept("122405", "DCM", "Algorithm Manufacturer")
ALGORITHM_PARAMETERS = CodedConcept("111002", "DCM", "Algorithm Parameters")
ALGORITHM_FAMILY = CodedConcept("111000", "DCM", "Algorithm Family")
ARTIFICIAL_INTELLIGENCE = CodedConcept("123110", "DCM", "Artificial Intelligence")
MEASUREMENT_METHOD = CodedConcept("370129005", "SCT", "Measurement Method")
SOURCE_OF_MEASUREMENT = CodedConcept("121112", "DCM", "Source of Measurement")
NO_UNITS = CodedConcept("1", "UCUM", "no units")
PIXELS = CodedConcept("{pixels}", "UCUM", "Pixels")
HIGH = CodedConcept("75540009", "SCT", "High")
MODERATE = CodedConcept("6736007", "SCT", "Moderate")
LOW = CodedConcept("62482003", "SCT", "Low")

# --- reference case: the subject is someone else (TID 1006, 1007) -----------------------------

SUBJECT_CLASS = CodedConcept("121024", "DCM", "Subject Class")
PATIENT = CodedConcept("121025", "DCM", "Patient")
SUBJECT_UID = CodedConcept("121028", "DCM", "Subject UID")
SUBJECT_ID = CodedConcept("121030", "DCM", "Subject ID")
STUDY_INSTANCE_UID = CodedConcept("110180", "DCM", "Study Instance UID")
SERIES_INSTANCE_UID = CodedConcept("112002", "DCM", "Series Instance UID")
COMMENT = CodedConcept("121106", "DCM", "Comment")

# --- modalities (CID 33) and the procedure reported for them (CID 100) ------------------------

IMAGING_PROCEDURE = CodedConcept("363679005", "SCT", "Imaging procedure")
_CT = CodedConcept("25045-6", "LN", "CT unspecified body region")
_MR = CodedConcept("25056-3", "LN", "MRI unspecified body region")
_PT = CodedConcept("44136-0", "LN", "PET unspecified body region")
_NM = CodedConcept("49118-3", "LN", "NM unspecified body region")
_XR = CodedConcept("43468-8", "LN", "XR unspecified body region")

_MODALITIES: dict[str, tuple[str, CodedConcept]] = {
    "CT": ("Computed Tomography", _CT),
    "MR": ("Magnetic Resonance", _MR),
    "PT": ("Positron emission tomography", _PT),
    "NM": ("Nuclear Medicine", _NM),
    "CR": ("Computed Radiography", _XR),
    "DX": ("Digital Radiography", _XR),
    "MG": ("Mammography", _XR),
    "RF": ("Radiofluoroscopy", _XR),
    "RG": ("Radiographic imaging", _XR),
    "XA": ("X-Ray Angiography", _XR),
    "IO": ("Intra-oral Radiography", _XR),
    "PX": ("Panoramic X-Ray", _XR),
    "US": ("Ultrasound", IMAGING_PROCEDURE),
    "IVUS": ("Intravascular Ultrasound", IMAGING_PROCEDURE),
    "BDUS": ("Ultrasound Bone Densitometry", IMAGING_PROCEDURE),
    "BMD": ("Bone Mineral Densitometry", IMAGING_PROCEDURE),
    "OP": ("Ophthalmic Photography", IMAGING_PROCEDURE),
    "OPT": ("Ophthalmic Tomography", IMAGING_PROCEDURE),
    "OPTENF": ("Ophthalmic Tomography En Face", IMAGING_PROCEDURE),
    "OPM": ("Ophthalmic Mapping", IMAGING_PROCEDURE),
    "OCT": ("Optical Coherence Tomography", IMAGING_PROCEDURE),
    "IVOCT": ("Intravascular Optical Coherence Tomography", IMAGING_PROCEDURE),
    "ES": ("Endoscopy", IMAGING_PROCEDURE),
    "GM": ("General Microscopy", IMAGING_PROCEDURE),
    "SM": ("Slide Microscopy", IMAGING_PROCEDURE),
    "CFM": ("Confocal Microscopy", IMAGING_PROCEDURE),
    "DMS": ("Dermoscopy", IMAGING_PROCEDURE),
    "XC": ("External-camera Photography", IMAGING_PROCEDURE),
    "TG": ("Thermography", IMAGING_PROCEDURE),
    "PA": ("Photoacoustic", IMAGING_PROCEDURE),
    "ECG": ("Electrocardiography", IMAGING_PROCEDURE),
    "OT": ("Other", IMAGING_PROCEDURE),
}


def modality(name: str) -> CodedConcept:
    """Return the coded modality of Modality (0008,0060); Other for one that is not known."""
    known = name if name in _MODALITIES else "OT"
    return CodedConcept(known, "DCM", _MODALITIES[known][0])


def procedure_reported(name: str) -> CodedConcept:
    """Return the CID 100 code for what was done with a modality."""
    return _MODALITIES.get(name, _MODALITIES["OT"])[1]
