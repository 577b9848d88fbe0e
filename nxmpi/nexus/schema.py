"""Every path, class and attribute of the files, once. NXRefine's layout."""

from pathlib import Path
from typing import NamedTuple

# --- wrapper: one entry per detector position, and `entry` for what they share
SHARED = "entry"
SAMPLE = "sample"
UNIT_CELL = ("unitcell_a", "unitcell_b", "unitcell_c",
             "unitcell_alpha", "unitcell_beta", "unitcell_gamma")  # fmt: skip
UNIT_CELL_VECTOR = "unit_cell"
UNIT_CELL_LENGTHS, UNIT_CELL_ANGLES = "unit_cell_abc", "unit_cell_alphabetagamma"
SPACE_GROUP, LAUE_GROUP, CENTRING = "space_group", "laue_group", "lattice_centring"
CELL_GROUP = "unit_cell_group"
FORMULA, NAME, LABEL, TEMPERATURE = "chemical_formula", "name", "label", "temperature"

INSTRUMENT = "instrument"
WAVELENGTH = "instrument/monochromator/wavelength"
DETECTOR = "instrument/detector"
DISTANCE, PIXEL_SIZE, PIXEL_MASK = "distance", "pixel_size", "pixel_mask"
DETECTOR_SHAPE = "shape"
BEAM_CENTER_X, BEAM_CENTER_Y = "beam_center_x", "beam_center_y"
YAW, PITCH, ROLL = "yaw", "pitch", "roll"
ORIENTATION = "detector_orientation"
DEFAULT_ORIENTATION = "-y +z -x"
ORIENTATION_MATRIX, UB_MATRIX = "orientation_matrix", "ub_matrix"
FRAME_TIME = "frame_time"
FLAT_FIELD, FLAT_FIELD_APPLIED = "flatfield", "flatfield_applied"
TRANSLATION_X, TRANSLATION_Y = "translation_x", "translation_y"
GONIOMETER = "instrument/goniometer"
PHI, CHI, OMEGA = "phi", "chi", "omega"
THETA = ("theta", "goniometer_pitch", "gonpitch")
"""The present name first, older ones after it."""
OFFSETS = ("xs", "ys", "zs")
ATTENUATOR = "instrument/attenuator/attenuator_transmission"
FILTER = "instrument/filter/transmission"
LOGS = "instrument/logs"
MONITORS = ("monitor1", "monitor")
"""Where the monitor is looked for when no name is given."""

DATA = "data"
RAW = "data/data"
FRAME_NUMBER, Y_PIXEL, X_PIXEL = "frame_number", "y_pixel", "x_pixel"
DATA_MASK, MONITOR_WEIGHT = "data/data_mask", "data/monitor_weight"

WORKFLOW = "nxworkflow"
FIRST, LAST = "first_frame", "last_frame"
SETTINGS = ("entry/nxscans/settings", "entry/nxreduce")
"""Parameters: in a parent; in a wrapper without one."""
PARENT = "entry/nxscans/parent"
PARENT_GRID = "entry/nxscans/transform"
AXES = ("Ql", "Qk", "Qh")

# --- the frames step
MAX_TASK, FIND_TASK, MASK_TASK = "nxmax", "nxfind", "nxprepare_mask"
SUMS = "frame_sums"
SUMMED_DATA, MAXIMUM_DATA, RADIAL_SUM = "summed_data", "maximum_data", "radial_sum"
SUMMED_FRAMES, PARTIAL_FRAMES = "summed_frames", "partial_frames"
TRANSMISSION, TRANSMISSION_RAW = "transmission", "transmission_raw"
MEDIAN = "median"
"""Attribute of the transmission: what it was divided by."""
OLDER_SUMS = (SUMMED_DATA, SUMMED_FRAMES, RADIAL_SUM)
"""Where NXRefine 0.1.1 has them: in the entry itself."""
POLAR_ANGLE, AZIMUTHAL_ANGLE, Q = "polar_angle", "azimuthal_angle", "Q"
HOT_PIXELS, DEAD_PIXELS, POLARIZATION = "hot_pixel_mask", "dead_pixel_mask", "polarization"
FACTOR = f"{DETECTOR}/{POLARIZATION}"
"""In the detector."""
SATURATION = "saturation_value"
"""In the detector, NeXus's name."""
MAXIMUM, FIRST_USED, LAST_USED, THRESHOLD = "maximum", "first", "last", "threshold"
"""Attributes of the data, all but the first of the peaks as well, and the last of these only."""
PEAKS = "peaks"
PEAK_COLUMNS = {
    "x": ("x", "pixel"),
    "y": ("y", "pixel"),
    "z": ("z", "frame"),
    "intensity": ("intensity", "counts"),
    "intensity_error": ("intensity_errors", "counts"),
    "x_error": ("x_errors", "pixel"),
    "y_error": ("y_errors", "pixel"),
    "z_error": ("z_errors", "frame"),
    "sigx": ("sigx", "pixel"),
    "sigy": ("sigy", "pixel"),
    "sigz": ("sigz", "frame"),
    "background": ("background", "counts/pixel/frame"),
    "n_pixels": ("npixels", ""),
    "maximum": ("maximum", "counts"),
    "flags": ("flags", ""),
}
"""Fields of the model's peaks: their names in files, and units."""
FLAG_BITS = "bits"
"""Attribute of the flags: what each bit means."""

# --- the orient step
REFINE_TASK = "nxrefine"
INDICES, GRAIN = ("h", "k", "l"), "grain"
RESIDUALS = {"residual_x": "pixel", "residual_y": "pixel", "residual_z": "frame"}
"""Among the peaks: predicted less observed, with units."""
GRAIN_UB = "grain_ub_matrices"
INDEXED = "indexed_fraction"
"""Attribute of the peaks: the part of the strong ones that is explained."""

# --- data files
VOLUME = "entry/data"
COUNTS, NORM, ERRORS, HITS = "v", "n", "v_errors", "n_pixels"
SUM, BACKGROUND_SUM, BACKGROUND_NORM = "counts", "background_counts", "background_norm"
"""In a combined volume from which a background was subtracted: what its intensity is made of."""
BACKGROUND_SCALE = "background_scale"
"""Attribute of such a volume."""
COUNT_PARTS = "count_parts"
"""Attribute of combined and symmetrized volumes of split pixels: how many equal parts each count
was divided into."""
SYMMETRIZED, SYMMETRIZED_ERRORS, IMAGES = "data", "data_errors", "redundancy"
"""In a symmetrized volume; the last is how many images of a voxel were measured. Beside them is
`CHI2`, of the images against their mean."""
SPREAD = "counts_variance"
"""In a symmetrized volume less a background: the variance of its intensity times its norm, 0 where
no count fell."""
SHELLS = "image_agreement"
"""In the entry of a symmetrized volume: how well images agree, by shells of |Q|."""
LEFT_OUT = "left_out_images"
"""Attribute of a symmetrized volume: voxels that were left out of it, as they deviate."""
FILLED, PUNCHED, DATA_WEIGHTS = "fill", "punch", "data_weights"
"""Beside it: without Bragg peaks, with holes in their place, and what the window divides by."""
PDF_VOLUME, PDF_SIGNAL, PDF_ERRORS = "entry/pdf", "pdf", "pdf_errors"
PDF_AXES = ("z", "y", "x")
FACTORS = "entry/norm_factors"
"""In a transform: each factor of the norm."""
GRID_AXES = "grid_axes"
"""Attribute of a volume: rows are its axes in r.l.u.; without it they are h, k, l."""
INTENSITY, INTENSITY_ERRORS = "intensity", "intensity_errors"
"""In a file of a line, a plane or a box; beside them may be `SUM` and `SUM_NORM`."""
SUM_NORM = "norm"
MASK = "entry/mask"
RAW_IN_FILE = "entry/data/data"
FINGERPRINT = "fingerprint"
"""Attribute of a data file: a key of all that it depends on."""
AGREEMENT, OVERLAPS = "agreement", "overlaps"
"""In the entry of a combined volume: maps of how positions agree, and numbers."""
CHI2, BRIGHT, RATIO = "chi2", "bright_difference", "ratio"
"""Maps, the signal first; the last comes before the name of each position."""
NORM_UNIT = "norm_unit"
"""Attribute of a transform: the norm is a multiple of it."""


class Twin(NamedTuple):
    """Names of one of the two forms of a volume: of all pixels, or of those the mask keeps."""

    group: str
    """NXdata group in the wrapper."""
    transform_task: str
    combine_task: str
    prefix: str
    """Of the file names."""
    symmetrized: str
    """NXdata group in the wrapper, of the volume averaged over its Laue group."""
    symmetrize_task: str
    total_pdf: str
    """NXdata group in the wrapper, of the Fourier transform with Bragg peaks."""
    pdf: str
    """The one without them."""
    pdf_task: str


REGULAR = Twin(
    "transform", "nxtransform", "nxcombine", "", "symm_transform", "nxsymmetrize",
    "total_pdf", "pdf", "nxpdf",
)  # fmt: skip
MASKED = Twin(
    "masked_transform", "nxmasked_transform", "nxmasked_combine", "masked_",
    "symm_masked_transform", "nxmasked_symmetrize",
    "total_masked_pdf", "masked_pdf", "nxmasked_pdf",
)  # fmt: skip


class ScanFiles:
    """Where the files of a scan are: EXPERIMENT/SAMPLE/LABEL/SAMPLE_SCAN.nxs and its folder."""

    def __init__(self, wrapper: Path) -> None:
        self.wrapper = wrapper.absolute()
        self.sample = self.wrapper.parent.parent.name
        self.scan = self.wrapper.stem.removeprefix(f"{self.sample}_")
        self.folder = self.wrapper.parent / self.scan
        self.settings = self.wrapper.parent.parent.parent / "tasks" / "settings.ini"
        self.default_parent = self.wrapper.parent / f"{self.sample}_scans.nxs"

    def raw(self, entry: str) -> Path:
        """Return the raw frames of a position."""
        return self.folder / f"{entry}.h5"

    def mask(self, entry: str) -> Path:
        """Return the 3-D mask of a position."""
        return self.folder / f"{entry}_mask.nxs"

    def transform(self, entry: str, twin: Twin) -> Path:
        """Return the transform of a position."""
        return self.folder / f"{entry}_{twin.prefix}transform.nxs"

    def combined(self, twin: Twin) -> Path:
        """Return the combined volume."""
        return self.folder / f"{twin.prefix}transform.nxs"

    def symmetrized(self, twin: Twin) -> Path:
        """Return the volume averaged over its Laue group."""
        return self.folder / f"{twin.prefix}symm_transform.nxs"

    def total_pdf(self, twin: Twin) -> Path:
        """Return the Fourier transform of the symmetrized volume."""
        return self.folder / f"{twin.prefix}total_pdf.nxs"

    def pdf(self, twin: Twin) -> Path:
        """Return the 3D-ΔPDF."""
        return self.folder / f"{twin.prefix}pdf.nxs"

    def checkpoint(self, entry: str, step: str) -> Path:
        """Return the folder in which an unfinished step of a position is kept."""
        return self.folder / f".{entry}_{step}.checkpoint"

    def truth(self) -> Path:
        """Return the known answer of a simulated scan."""
        return self.folder / "truth.h5"


# --- what figures look for
WEIGHTS = "weights"
"""Beside the signal of a volume in the wrapper."""
FRAME_SUMS = ("frame_sums/summed_data", "summed_data")
"""Sum of the frames: the present place first, the older one after it."""


# --- what simulations add
MONITOR_SIGNAL = "data"
"""Inside a monitor's group."""
TRUTH_DIFFUSE, TRUTH_BRAGG, TRUTH_CRYSTAL = "diffuse", "bragg", "crystal"
TRUTH_FACTORS, TRUTH_PEAKS = "factors", "peaks"
TRUTH_HALOS, TRUTH_PIXELS = "halos", "pixels"
"""In truth.h5, from the factors on below each position's entry."""
