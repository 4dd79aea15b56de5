"""Your own image, and your own reference, to a mask with scores: one page, one button."""

import base64
import io
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st
from PIL import Image
from streamlit.runtime.uploaded_file_manager import UploadedFile

from openeo_cloudmask.classes import FOUR_CLASS, SCHEMES
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import ReadOptions
from openeo_cloudmask.products.crs import parse_crs
from openeo_cloudmask.sensors import SENSORS
from openeo_cloudmask.viewer.charts import swatches
from openeo_cloudmask.viewer.colors import NEEDED
from openeo_cloudmask.viewer.entries import ReferenceEntry
from openeo_cloudmask.viewer.guess import (
    Code,
    ImageGuess,
    guess_codes,
    guess_image,
    meaning_text,
    parse_names,
)
from openeo_cloudmask.viewer.local import State, start_mask
from openeo_cloudmask.viewer.meaning import read_tags
from openeo_cloudmask.viewer.placing import (
    EXAMPLE_CRS,
    Lack,
    corner,
    cover,
    covers_like,
    find_lack,
    give_place,
)
from openeo_cloudmask.viewer.uploads import SUFFIXES
from openeo_cloudmask.viewer.web import mask_form, session, told

PAGE = {"title": "Import", "icon": ":material/upload_file:", "place": 2}

PREVIEW_PX = 300
COLUMNS = 4
FROM_FILE = "tell from the file"
NOTHING = "no-data"
EACH = "a class for each"
CORNER = ("Left", "Top", "Side of a pixel")
GEOTIFFS = (".tif", ".tiff")
LOOK_AGAIN_S = 0.2
LOOKS = "colours for looking at"
VALUES = (LOOKS, "reflectance in 8 bits: I know sensor and scale")


def keep(kind: str, upload: UploadedFile | None) -> Path | None:
    """Return where an upload lies in the session's folder; it is written once."""
    if upload is None:
        return None
    key = f"kept_{kind}"
    if st.session_state.get(key, ("",))[0] != upload.file_id:
        with told():
            path = session().keep_upload(upload, upload.name, upload.size)
        st.session_state[key] = (upload.file_id, path)
    path = st.session_state[key][1]
    return path if isinstance(path, Path) else None


def place(path: Path, like: Path | None = None) -> None:
    """Ask where a raster lies that does not say it; the page stops until it is known.

    Args:
        path: the session's copy, which gets its place.
        like: what it may cover exactly, if that is a GeoTIFF.
    """
    if path.suffix.lower() not in GEOTIFFS:
        return
    with told():
        lack = st.session_state.setdefault(f"lack_{path.parent.name}", find_lack(path))
        if not lack:
            return
        st.warning(f"{path.name} does not say where it lies: tell it.", icon=":material/place:")
        key = f"like_{path.parent.name}"
        if like is not None and like.suffix.lower() not in GEOTIFFS:
            like = None
        if like is None or not covers_like(path, like):
            ask_place(path, lack)
        elif st.toggle(f"It covers what {like.name} covers", value=True, key=key):
            crs, transform = cover(path, like)
            give_place(path, crs=crs, transform=transform)
        else:
            ask_place(path, lack)


def ask_place(path: Path, lack: Lack) -> None:
    """Draw fields for what a raster lacks, and write it into it."""
    columns = st.columns(4)
    named = columns[0].text_input(
        "Coordinate reference system", placeholder=EXAMPLE_CRS, key=f"crs_{path.parent.name}",
        help="The code of the projection, such as that of the scene's UTM zone",
    )  # fmt: skip
    corners = {
        name: column.number_input(name, value=None, format="%g", key=f"{name} {path.parent.name}")
        for name, column in zip(CORNER, columns[1:], strict=True)
        if lack.transform
    }
    given = [value for value in corners.values() if value is not None]
    if not named.strip() or len(given) < len(corners):
        st.stop()
    give_place(path, crs=parse_crs(named), transform=corner(*given) if corners else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What an image is, as the user left it."""

    sensor: str | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    colors: tuple[str, ...] | None = None
    """Of a picture for looking at, what each band is; None for an image to be masked."""


def choose_image(path: Path) -> Choice:
    """Draw what a raster seems to be; return what the user made of it."""
    if path.suffix.lower() not in GEOTIFFS:
        st.caption("What it is, this file says itself.")
        return Choice()
    with told():
        guess = guess_image(path)
    picture, fields = st.columns([1, 2.2])
    with picture:
        show_preview(guess)
    with fields:
        if guess.colors is not None and is_for_looking():
            return Choice(colors=choose_colors(guess.colors))
        names = st.text_input(
            "Bands, in their order in the file",
            ", ".join(guess.names),
            help="Names as the sensor calls them. The file's own, those of the colours that it "
            "says, or the usual order of so many",
        )
        sensors = [FROM_FILE, *SENSORS]
        place = sensors.index(guess.sensor_id) if guess.sensor_id in sensors else 0
        sensor = st.selectbox("Sensor", sensors, index=place)
        left, right = st.columns(2)
        scale = left.number_input("Scale, reflectance per count", value=guess.scale, format="%g")
        offset = right.number_input("Offset, reflectance of 0", value=guess.offset, format="%g")
        st.caption(f"Told from values: {guess.why}. No-data: {guess.nodata}.")
    bands = parse_names(names)
    show_wavelengths(sensor, bands, guess)
    read = ReadOptions(bands=None if guess.named and bands == guess.names else bands,
                       scale=scale, offset=offset)  # fmt: skip
    return Choice(sensor=None if sensor == FROM_FILE else sensor, read=read)


def is_for_looking() -> bool:
    """Say what a picture in 8-bit colours is; return whether it is one, as the user says."""
    st.warning(
        "**A picture in 8-bit colours**, made for looking at: its contrast was chosen for the eye, "
        "so its values are neither reflectance nor counts, and nothing is computed of it. It can "
        f"be looked at below a reference and masks. For a mask, {NEEDED}.",
        icon=":material/image:",
    )
    return st.radio("Its values are", VALUES, help="Few data sets store reflectance so") == LOOKS


def choose_colors(guess: tuple[str, ...]) -> tuple[str, ...]:
    """Draw which band of a picture is which colour; return it."""
    text = st.text_input(
        "Its bands, in their order in the file",
        ", ".join(guess),
        help="red, green, blue; nir or alpha (transparency). Guessed from the colours that the "
        "file says, its names, or the usual order of so many",
    )
    return parse_names(text.lower())


def show_preview(guess: ImageGuess) -> None:
    """Draw the first sight of an image; Streamlit's own pictures have no text for the blind."""
    kept = io.BytesIO()
    Image.fromarray(guess.preview).save(kept, "PNG")
    content = base64.b64encode(kept.getvalue()).decode()
    st.html(
        f'<img alt="First sight of the image" style="width:100%;max-width:{PREVIEW_PX}px" '
        f'src="data:image/png;base64,{content}">'
    )


def show_wavelengths(sensor: str, bands: tuple[str, ...], guess: ImageGuess) -> None:
    """Say which wavelengths the bands have, and complain of those that the sensor lacks."""
    if sensor == FROM_FILE:
        return
    known = [(name, SENSORS[sensor].find_band(name)) for name in bands]
    if lacking := [name for name, band in known if band is None]:
        st.warning(f"{SENSORS[sensor].title} has no bands called {', '.join(lacking)}.")
    if len(bands) != len(guess.names):
        st.warning(f"The file has {len(guess.names)} bands, and {len(bands)} are named.")
    parts = [f"{name} {band.centre_nm:.0f} nm" for name, band in known if band and band.centre_nm]
    st.caption(", ".join(parts))


def choose_classes(path: Path) -> str | None:
    """Draw what the values of a reference mean; return it as ``add_reference`` takes it."""
    with told():
        said = read_tags(path).scheme
        if said is not None:
            st.caption(f"Its classes, as the file says: {SCHEMES[said].title}.")
            return None
        codes = guess_codes(path)
    known = st.selectbox(
        "Values", [EACH, *SCHEMES], help="The file does not say what they mean",
        format_func=lambda name: EACH if name == EACH else SCHEMES[name].title,
    )  # fmt: skip
    if known != EACH:
        return known
    st.caption("A guess; correct what is wrong.")
    st.html(swatches(FOUR_CLASS.classes))
    columns = st.columns(COLUMNS)
    chosen = {}
    for place, code in enumerate(codes):
        with columns[place % COLUMNS]:
            chosen[code.value] = choose_class(code)
    if not any(chosen.values()):
        st.warning("No value has a class yet: choose one for each above.")
        st.stop()
    if lost := sum(code.share for code in codes if not code.gone and not chosen[code.value]):
        st.warning(
            f"{lost:.1%} of the pixels have values without a class: nothing is compared there."
        )
    return meaning_text(chosen)


def choose_class(code: Code) -> str | None:
    """Draw the choice of the class of one value."""
    names = {item.name: item.title for item in FOUR_CLASS.classes}
    options = [*names, NOTHING]
    guess = NOTHING if code.guess is None else code.guess.name
    wanted = st.selectbox(
        f"{code.value} ({code.share:.1%} of the pixels)", options, index=options.index(guess),
        format_func=lambda name: names.get(name, NOTHING), key=f"code_{code.value}",
    )  # fmt: skip
    return None if wanted == NOTHING else wanted


def show(image: Path, colors: tuple[str, ...], reference: ReferenceEntry | None) -> None:
    """Open a picture, which the reference is of; nothing is computed of it."""
    bar = st.progress(0.0, text="Copying the picture")
    entry = session().add_colors(image, colors, report=bar.progress)
    if reference is not None:
        session().join(reference.title, entry.title)


def run(
    image: Path, choice: Choice, options: MaskOptions, reference: ReferenceEntry | None
) -> None:
    """Open the image, which the reference is of, and mask it, with a progress bar."""
    current = session()
    current.check_work()
    bar = st.progress(0.0, text="Drawing the scene")
    read = choice.read
    entry = current.add_scene(image, sensor=choice.sensor, read=read, report=bar.progress)
    if reference is not None:
        current.join(reference.title, entry.title)
    output = current.name_mask(options.model, image)
    task = start_mask(
        image, output, options, sensor=entry.sensor_id, read=read,
        pixels=math.prod(entry.picture.grid.shape_yx),
    )  # fmt: skip
    task.title, task.scene = f"{options.model} on {entry.title}", entry.title
    current.tasks.append(task)
    while task.state is State.RUNNING:
        bar.progress(task.share, text=f"{task.title}: {task.share:.0%}")
        time.sleep(LOOK_AGAIN_S)
    bar.empty()
    if task.state is not State.FINISHED:
        st.error(f"{task.title}: {task.message}", icon=":material/error:")
        st.stop()
    current.open_task(task)


def main() -> None:
    """Draw the page."""
    st.title("Import")
    one, two = st.columns(2)
    image = keep("image", one.file_uploader(
        "Your image", type=[suffix.lstrip(".") for suffix in SUFFIXES],
        help="GeoTIFF, NetCDF, SAFE.zip",
    ))  # fmt: skip
    truth = keep("reference", two.file_uploader(
        "Your reference (if you have one)", type=["tif", "tiff"],
        help="A GeoTIFF of class values, on any grid",
    ))  # fmt: skip
    if image is None:
        st.info(
            "Choose your image, and a reference if you have one; press the button below: you get "
            "to the mask beside them, with its scores.",
            icon=":material/lightbulb:",
        )
        return
    place(image)
    choice = choose_image(image)
    meaning = None
    if truth is not None:
        with st.container(border=True):
            st.markdown(f"**Reference** {truth.name}")
            place(truth, image)
            meaning = choose_classes(truth)
    if choice.colors is not None:
        label, icon = "Open the picture", ":material/image:"
    else:
        with st.expander("Model and options"):
            options = mask_form("import")
        label = "Mask and score" if truth is not None else "Mask"
        icon = ":material/play_arrow:"
    if not st.button(label, type="primary", icon=icon):
        return
    with told():
        reference = None
        if truth is not None:  # told before the work begins, if something is wrong with it
            reference = session().add_reference(truth, title=truth.stem, meaning=meaning)
        if choice.colors is not None:
            show(image, choice.colors, reference)
        else:
            run(image, choice, options, reference)
    st.switch_page("screens/compare.py")


main()
