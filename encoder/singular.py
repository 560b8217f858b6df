"""One form for singular and plural of an English word."""

_PLURALS = (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("shes", "sh"), ("ches", "ch"))
_NO_PLURALS = ("ss", "us", "is")
_SHORTEST_PLURAL = 4
_IRREGULAR = {
    "axillae": "axilla", "bronchi": "bronchus", "calves": "calf", "children": "child",
    "diagnoses": "diagnosis", "emboli": "embolus", "feet": "foot", "femora": "femur",
    "fetuses": "fetus", "maxillae": "maxilla", "men": "man", "menisci": "meniscus",
    "metastases": "metastasis", "patellae": "patella", "pelves": "pelvis", "pleurae": "pleura",
    "scapulae": "scapula", "sinuses": "sinus", "stenoses": "stenosis", "teeth": "tooth",
    "testes": "testis", "thrombi": "thrombus", "vertebrae": "vertebra", "women": "woman",
}  # fmt: skip


def singular(word: str) -> str:
    """Return the singular of a word in lower case, or what passes for one: "pancrea" is enough."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < _SHORTEST_PLURAL or not word.endswith("s") or word.endswith(_NO_PLURALS):
        return word
    ending, one = next((each for each in _PLURALS if word.endswith(each[0])), ("s", ""))
    return word.removesuffix(ending) + one
