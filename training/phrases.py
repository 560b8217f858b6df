"""The words of captions: what the values of DICOM attributes and labels are called, and templates.

Owns: the tables only, each value with its synonyms. Does not own: which facts are known (`facts`),
how templates are filled (`captions`). A body part that is not here has the name that the standard
gives it, in `body_parts.csv` (PS3.16 Annex L).
"""

from encoder.clip import Kind

# Modality (PS3.3 section C.7.3.1.1.1) to names of the method, which a kind may follow ("CT scan"),
# and to further names of the picture.
METHODS: dict[str, tuple[str, ...]] = {
    "RF": ("fluoroscopy", "x-ray fluoroscopy"),
    "XA": ("x-ray angiography",),
    "MG": ("mammography",),
    "CT": ("CT", "computed tomography"),
    "MR": ("MRI", "magnetic resonance imaging"),
    "PT": ("PET", "positron emission tomography"),
    "NM": ("scintigraphy",),
    "US": ("ultrasound", "sonography"),
    "IVUS": ("intravascular ultrasound", "IVUS"),
    "ES": ("endoscopy",),
    "SM": ("histology", "slide microscopy"),
    "GM": ("microscopy",),
    "OPT": ("optical coherence tomography", "OCT"),
}
PICTURES: dict[str, tuple[str, ...]] = {
    "CR": ("x-ray", "radiograph", "x-ray image", "computed radiograph"),
    "DX": ("x-ray", "radiograph", "x-ray image", "digital radiograph"),
    "RG": ("x-ray", "radiograph", "x-ray image", "plain film"),
    "XA": ("angiogram",),
    "MG": ("mammogram", "mammography image"),
    "IO": ("intraoral x-ray", "dental radiograph"),
    "PX": ("panoramic x-ray", "panoramic radiograph"),
    "NM": ("scintigram", "nuclear medicine image"),
    "US": ("sonogram",),
    "ES": ("endoscopic view", "endoscopic image"),
    "SM": ("histology slide", "pathology slide"),
    "XC": ("photograph", "clinical photograph"),
    "OP": ("photograph", "ophthalmic photograph", "eye photograph"),
    "ECG": ("ECG", "electrocardiogram", "ECG recording"),
}
KINDS: dict[Kind, tuple[str, ...]] = {
    Kind.STILL: ("image", "picture"),
    Kind.VOLUME: ("volume", "scan"),
    Kind.CINE: ("loop", "video clip", "cine loop"),
}
# Commoner names than the codes have.
BODY_PARTS: dict[str, tuple[str, ...]] = {
    "ABDOMEN": ("abdomen", "belly"),
    "CHEST": ("chest", "thorax"),
    "COLON": ("colon", "large bowel"),
    "CSPINE": ("cervical spine", "neck spine"),
    "LSPINE": ("lumbar spine", "lower back"),
    "RETINA": ("retina", "fundus"),
    "SSPINE": ("sacrum", "sacral spine"),
    "THIGH": ("thigh", "upper leg"),
    "TSPINE": ("thoracic spine", "dorsal spine"),
}

# View Position (PS3.3 sections C.8.11.5.1.1, C.8.1.1.1.1), and views of the breast (CID 4014).
VIEWS: dict[str, tuple[str, ...]] = {
    "AP": ("anteroposterior", "AP", "front to back"),
    "PA": ("posteroanterior", "PA", "back to front"),
    "LL": ("left lateral", "lateral"),
    "RL": ("right lateral", "lateral"),
    "LLD": ("left lateral decubitus",),
    "RLD": ("right lateral decubitus",),
    "LLO": ("left lateral oblique", "oblique"),
    "RLO": ("right lateral oblique", "oblique"),
    "LAT": ("lateral",),
    "CC": ("craniocaudal", "CC"),
    "MLO": ("mediolateral oblique", "MLO"),
    "ML": ("mediolateral",),
    "LM": ("lateromedial",),
}
SIDES: dict[str, tuple[str, ...]] = {
    "L": ("left",),
    "R": ("right",),
    "B": ("bilateral", "both sides"),
}

# Bands of age: first day of life that is not in it, name (ICH E11 and E7); units of VR AS in days.
DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
AGE_BANDS: tuple[tuple[float, str], ...] = (
    (28, "newborn"),
    (2 * DAYS["Y"], "infant"),
    (12 * DAYS["Y"], "child"),
    (18 * DAYS["Y"], "adolescent"),
    (65 * DAYS["Y"], "adult"),
    (float("inf"), "older adult"),
)
# (band, PatientSex), either may be unknown.
PATIENTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "F"): ("a female patient",),
    ("", "M"): ("a male patient",),
    ("newborn", ""): ("a newborn", "a neonate"),
    ("newborn", "F"): ("a newborn girl", "a female neonate"),
    ("newborn", "M"): ("a newborn boy", "a male neonate"),
    ("infant", ""): ("an infant", "a baby"),
    ("infant", "F"): ("a baby girl", "a female infant"),
    ("infant", "M"): ("a baby boy", "a male infant"),
    ("child", ""): ("a child", "a paediatric patient"),
    ("child", "F"): ("a girl", "a female child"),
    ("child", "M"): ("a boy", "a male child"),
    ("adolescent", ""): ("an adolescent", "a teenager"),
    ("adolescent", "F"): ("an adolescent girl", "a teenage girl"),
    ("adolescent", "M"): ("an adolescent boy", "a teenage boy"),
    ("adult", ""): ("an adult",),
    ("adult", "F"): ("a woman", "an adult woman"),
    ("adult", "M"): ("a man", "an adult man"),
    ("older adult", ""): ("an older adult", "an elderly patient"),
    ("older adult", "F"): ("an older woman", "an elderly woman"),
    ("older adult", "M"): ("an older man", "an elderly man"),
}

# Labels that are findings.
FINDINGS: dict[str, tuple[str, ...]] = {
    "normal": ("normal findings", "no abnormality", "unremarkable appearance"),
    "healthy": ("normal findings", "healthy appearance", "no abnormality"),
    "benign": ("benign lesion", "benign finding"),
    "malignant": ("malignant lesion", "malignant finding", "cancer"),
    "bacterial pneumonia": ("bacterial pneumonia", "pneumonia caused by bacteria"),
    "viral pneumonia": ("viral pneumonia", "pneumonia caused by a virus"),
    "COVID-19": ("COVID-19", "COVID-19 pneumonia", "coronavirus disease"),
    "polyp small": ("small polyp", "polyp of small size"),
    "polyp medium": ("medium-sized polyp", "polyp of medium size"),
    "polyp large": ("large polyp", "polyp of large size"),
    "lung adenocarcinoma": ("adenocarcinoma of the lung", "lung adenocarcinoma"),
    "lung squamous cell carcinoma": ("squamous cell carcinoma of the lung",),
    "benign lung tissue": ("benign lung tissue", "benign tissue of the lung"),
    "diabetic retinopathy": ("diabetic retinopathy", "retinopathy in diabetes"),
    "glaucoma": ("glaucoma",),
    "macular edema": ("macular oedema", "macular edema"),
    "drusen": ("drusen",),
    "sinus rhythm": ("sinus rhythm",),
    "atrial fibrillation": ("atrial fibrillation", "AF"),
    "myocardial infarction": ("myocardial infarction", "heart attack"),
    "left bundle branch block": ("left bundle branch block", "LBBB"),
}
# Labels that name a region within the body part.
REGIONS: dict[str, tuple[str, ...]] = {
    "head": ("head",),
    "lower abdomen": ("lower abdomen", "lower part of the abdomen"),
    "lower chest": ("lower chest", "lower part of the chest"),
    "pelvis": ("pelvis",),
    "thigh": ("thigh", "upper leg"),
    "upper abdomen": ("upper abdomen", "upper part of the abdomen"),
    "upper chest": ("upper chest", "upper part of the chest"),
}
# Labels that say how a picture was taken.
ACQUISITIONS: dict[str, tuple[str, ...]] = {
    "contrast": ("with contrast", "with contrast medium", "contrast enhanced"),
    "no contrast": ("without contrast", "without contrast medium", "unenhanced"),
}
# Slot of a label, by the table that has it; what none has is a finding, said as it is written.
LABELS = {"region": REGIONS, "acquired": ACQUISITIONS, "finding": FINDINGS}

# Slots that people fill in words of their own.
FREE_TEXT = frozenset({"study", "series", "protocol", "comment"})

# Slots in braces are facts: a template is taken only where all of its facts are known.
TEMPLATES: tuple[str, ...] = (
    "{image}",
    "{image} of {patient}",
    "{image} of the {part}",
    "{part} {image}",
    "{image}, {view} view",
    "{view} view of the {part}",
    "{view} {part} {image}",
    "{image} of the {part}, {view} view",
    "{side} {part} {image}",
    "{image} of the {part}, {side}",
    "{image}, {side}",
    "{part} of {patient}, {image}",
    "{view} {part} {image} of {patient}",
    "{finding}",
    "{image} with {finding}",
    "{image} showing {finding}",
    "{finding} on {image}",
    "{part} {image} with {finding}",
    "{image} of the {part} showing {finding}",
    "{finding} in the {part}",
    "{image} of the {part} of {patient} with {finding}",
    "{patient} with {finding}, {image}",
    "{image} {acquired}",
    "{part} {image} {acquired}",
    "{image} of the {part} {acquired}",
    "{image} of {patient} {acquired}",
    "{region}",
    "{region} {image}",
    "{image} of the {region}",
    "{region} of {patient}, {image}",
    "{study}",
    "{series}",
    "{protocol}",
    "{study}, {series}",
    "{image}: {study}",
    "{image}: {series}",
    "{image} of the {part}, {series}",
    "{image} of {patient}, {study}",
    "{image}, protocol {protocol}",
    "{comment}",
    "{part} {image}: {comment}",
    "{image}: {comment}",
)
