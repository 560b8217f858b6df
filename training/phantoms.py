"""Synthetic DICOM whose content is known: CT of ellipsoids, radiograph, ultrasound loop, slide.

Owns: writing valid files for tests, benchmarks and demonstrations, the same bytes for the same seed
and UIDs. Does not own: real data (`training.data`). The patient is nobody.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.dataset import FileDataset, FileMetaDataset

UidSource = Callable[[], str]

# Centre (z, y, x) and half axes in units of the half image, and HU: body, two lungs, heart, spine.
CT_ORGANS: tuple[tuple[tuple[float, float, float], tuple[float, float, float], float], ...] = (
    ((0.0, 0.0, 0.0), (1.6, 0.62, 0.84), 40.0),
    ((0.0, -0.05, -0.40), (0.95, 0.42, 0.28), -850.0),
    ((0.0, -0.05, 0.40), (0.95, 0.42, 0.28), -850.0),
    ((-0.2, -0.15, 0.12), (0.45, 0.26, 0.24), 55.0),
    ((0.0, 0.42, 0.0), (1.6, 0.13, 0.12), 600.0),
)
AIR_HU = -1000.0


def uid_source(seed: int) -> UidSource:
    """Give UIDs that depend on the seed alone (PS3.5 B.2: 2.25 and a 128 bit number)."""
    random = np.random.default_rng(seed)
    return lambda: f"2.25.{int.from_bytes(random.bytes(16), 'big')}"


def ct_volume_hu(slices: int, size: int, *, seed: int, noise_hu: float = 20.0) -> NDArray[np.int16]:
    """Draw the CT phantom as (slices, size, size) HU; the seed moves the organs and the noise."""
    random = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in (slices, size, size)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    volume = np.full((slices, size, size), AIR_HU, dtype=np.float32)
    for centre, half_axes, value_hu in CT_ORGANS:
        cz, cy, cx = np.array(centre) + random.uniform(-0.04, 0.04, 3)
        az, ay, ax = np.array(half_axes) * random.uniform(0.92, 1.08, 3)
        inside = ((z - cz) / az) ** 2 + ((y - cy) / ay) ** 2 + ((x - cx) / ax) ** 2 <= 1
        volume[inside] = value_hu
    volume += noise_hu * random.standard_normal(volume.shape, dtype=np.float32)
    return volume.clip(-1024, 3071).astype(np.int16)


def ct_series(
    folder: Path,
    *,
    new_uid: UidSource,
    slices: int = 100,
    size: int = 512,
    spacing_mm: tuple[float, float] = (2.5, 0.7),
    seed: int = 0,
    patient_id: str = "PHANTOM",
) -> list[Path]:
    """Write an axial CT series, one file a slice, feet to head; `spacing_mm` is slice and pixel."""
    volume = ct_volume_hu(slices, size, seed=seed)
    step_mm, pixel_mm = spacing_mm
    series = _series(new_uid, patient_id, modality="CT", body_part="CHEST")
    frame_of_reference = new_uid()
    paths: list[Path] = []
    for number, image in enumerate(volume):
        dataset = _instance(series, uid.CTImageStorage, new_uid(), number + 1)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.FrameOfReferenceUID = frame_of_reference
        dataset.PositionReferenceIndicator = ""
        corner_mm = -(size - 1) / 2 * pixel_mm
        dataset.ImagePositionPatient = [corner_mm, corner_mm, number * step_mm]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing = [pixel_mm, pixel_mm]
        dataset.SliceThickness = step_mm
        dataset.KVP = "120"
        dataset.AcquisitionNumber = 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.RescaleType = "HU"
        dataset.WindowCenter, dataset.WindowWidth = 40, 400
        _pixels(dataset, (image.astype(np.int32) + 1024).astype(np.uint16), bits=12)
        paths.append(_write(dataset, folder))
    return paths


def still(
    folder: Path,
    *,
    new_uid: UidSource,
    size: tuple[int, int] = (512, 384),
    seed: int = 0,
    patient_id: str = "PHANTOM",
) -> Path:
    """Write a radiograph (DX for presentation): the CT phantom seen from the front.

    Rows and columns of `size` are multiples of 4.
    """
    rows, columns = size
    volume = ct_volume_hu(rows // 4, columns // 4, seed=seed).astype(np.float32)
    shadow = np.kron((volume[::-1] - AIR_HU).mean(axis=1), np.ones((4, 4)))
    grey = (shadow / shadow.max() * 4095).clip(0, 4095).astype(np.uint16)
    series = _series(new_uid, patient_id, modality="DX", body_part="CHEST")
    dataset = _instance(series, uid.DigitalXRayImageStorageForPresentation, new_uid(), 1)
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageLaterality = "U"
    dataset.DetectorType = "DIRECT"
    dataset.ImagerPixelSpacing = [0.8, 0.8]
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", -1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "US"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "NO"
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.AnatomicRegionSequence = [_code("51185008", "SCT", "Chest")]
    dataset.ViewPosition, dataset.PositionerType = "AP", "NONE"
    dataset.ViewCodeSequence = [_code("399348003", "SCT", "Antero-posterior")]
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
    dataset.AcquisitionContextSequence = []
    _pixels(dataset, grey, bits=12)
    return _write(dataset, folder)


def cine(
    folder: Path,
    *,
    new_uid: UidSource,
    frames: int = 32,
    size: tuple[int, int] = (240, 320),
    frame_time_ms: float = 40.0,
    seed: int = 0,
    patient_id: str = "PHANTOM",
) -> Path:
    """Write an ultrasound loop: a dark ventricle that beats once in speckled tissue."""
    random = np.random.default_rng(seed)
    rows, columns = size
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    speckle = 140 * random.rayleigh(0.5, size)
    loop = np.empty((frames, rows, columns), dtype=np.uint8)
    for number in range(frames):
        radius = 0.5 + 0.15 * np.cos(2 * np.pi * number / frames)
        blood = np.hypot(x, y) < radius
        loop[number] = np.where(blood, 0.1, 1.0) * speckle.clip(0, 255)
    series = _series(new_uid, patient_id, modality="US", body_part="HEART")
    dataset = _instance(series, uid.UltrasoundMultiFrameImageStorage, new_uid(), 1)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "TTE", "0001"]
    dataset.NumberOfFrames = frames
    dataset.FrameTime = frame_time_ms
    dataset.FrameIncrementPointer = 0x00181063
    dataset.PatientOrientation = ""
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "NO"
    _pixels(dataset, loop, bits=8)
    return _write(dataset, folder)


# Centre and half axes (y, x) of the tissue on the slide, in units of the half image.
SLIDE_TISSUE = ((0.1, -0.3), (0.6, 0.45))


def slide_picture(size: tuple[int, int], *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw pink tissue with purple nuclei on white glass, (H, W, 3); H and W multiples of 8."""
    random = np.random.default_rng(seed)
    rows, columns = size
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    (cy, cx), (ay, ax) = SLIDE_TISSUE
    tissue = ((y - cy) / ay) ** 2 + ((x - cx) / ax) ** 2 <= 1
    nuclei = np.kron(random.random((rows // 8, columns // 8)) > 0.85, np.ones((8, 8), np.bool_))
    picture = np.full((rows, columns, 3), (243, 242, 244), dtype=np.int16)
    picture[tissue] = (225, 150, 190)
    picture[tissue & nuclei] = (110, 60, 150)
    picture += random.integers(-4, 5, picture.shape, dtype=np.int16)
    return picture.clip(0, 255).astype(np.uint8)


def slide(
    folder: Path,
    *,
    new_uid: UidSource,
    size: tuple[int, int] = (2048, 3072),
    tile: int = 256,
    levels: int = 3,
    spacing_um: float = 0.25,
    seed: int = 0,
    patient_id: str = "PHANTOM",
) -> list[Path]:
    """Write a whole slide image, finest level first, each half as fine; then its label."""
    series = _series(new_uid, patient_id, modality="SM", body_part="BREAST")
    series.FrameOfReferenceUID, series.PositionReferenceIndicator = new_uid(), "SLIDE_CORNER"
    picture = slide_picture(size, seed=seed)
    glass_mm = (size[0] * spacing_um * 1e-3, size[1] * spacing_um * 1e-3)
    paths: list[Path] = []
    for number in range(levels):
        dataset = _instance(series, uid.VLWholeSlideMicroscopyImageStorage, new_uid(), number + 1)
        derived = ("DERIVED", "RESAMPLED") if number else ("ORIGINAL", "NONE")
        dataset.ImageType = [derived[0], "PRIMARY", "VOLUME", derived[1]]
        _tiled(dataset, picture, tile, glass_mm)
        paths.append(_write(dataset, folder))
        quarters = picture[::2, ::2], picture[1::2, ::2], picture[::2, 1::2], picture[1::2, 1::2]
        picture = np.mean(quarters, axis=0).astype(np.uint8)
    label = _instance(series, uid.VLWholeSlideMicroscopyImageStorage, new_uid(), levels + 1)
    label.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    _tiled(label, slide_picture((64, 64), seed=seed), 64, (15.0, 15.0))
    label.SpecimenLabelInImage = "YES"
    return [*paths, _write(label, folder)]


def _tiled(
    dataset: Dataset, picture: NDArray[np.uint8], tile: int, glass_mm: tuple[float, float]
) -> None:
    """Cut a picture into tiles (TILED_FULL), the last ones filled up with black."""
    rows, columns = picture.shape[:2]
    down, across = -(-rows // tile), -(-columns // tile)
    filled = np.pad(picture, ((0, down * tile - rows), (0, across * tile - columns), (0, 0)))
    tiles = filled.reshape(down, tile, across, tile, 3).swapaxes(1, 2).reshape(-1, tile, tile, 3)
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = rows, columns
    dataset.ImagedVolumeHeight, dataset.ImagedVolumeWidth = glass_mm
    dataset.ImagedVolumeDepth = 0.001
    dataset.TotalPixelMatrixFocalPlanes = dataset.NumberOfOpticalPaths = 1
    dataset.NumberOfFrames = len(tiles)
    dataset.DimensionOrganizationType = "TILED_FULL"
    measures = Dataset()
    measures.PixelSpacing = [f"{glass_mm[0] / rows:.8f}", f"{glass_mm[1] / columns:.8f}"]
    measures.SliceThickness = 0.001
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.SpecimenLabelInImage, dataset.BurnedInAnnotation = "NO", "NO"
    dataset.LossyImageCompression = "00"
    _pixels(dataset, tiles[..., 0], bits=8)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration = 0
    dataset.PixelData = tiles.tobytes()


def _series(new_uid: UidSource, patient_id: str, *, modality: str, body_part: str) -> Dataset:
    """Patient, study and series attributes, all that the standard requires of them."""
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID = "Phantom^Similis", patient_id
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19700101", "O", "056Y"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = new_uid(), new_uid()
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20260101"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "120000"
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20260101", "120000"
    dataset.StudyDescription, dataset.SeriesDescription = "Phantom", f"Phantom {modality}"
    dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "", ""
    dataset.Modality, dataset.BodyPartExamined, dataset.SeriesNumber = modality, body_part, 1
    dataset.PatientPosition = "HFS" if modality == "CT" else ""
    dataset.Manufacturer, dataset.ManufacturerModelName = "Similis", "Phantom"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "1", "1"
    return dataset


def _instance(series: Dataset, sop_class: str, instance_uid: str, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.UID(sop_class)
    meta.MediaStorageSOPInstanceUID = uid.UID(instance_uid)
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset = FileDataset("", series, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.UID(sop_class), uid.UID(instance_uid)
    dataset.InstanceNumber = number
    return dataset


def _pixels(dataset: Dataset, array: NDArray[np.unsignedinteger], *, bits: int) -> None:
    dataset.Rows, dataset.Columns = array.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = array.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, 0
    data = array.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _write(dataset: FileDataset, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path
