"""Builds the embedded emoji set: three drawing styles at 64 px on white, with names and tags.

    python scripts/build_emoji.py --packages FOLDER

FOLDER holds the npm packages named below as ``npm pack`` leaves them; the ones that are missing are fetched with it.
The output is a pure function of the packages (and of the WebP encoder inside Pillow).
"""

import argparse
import hashlib
import io
import json
import re
import subprocess
import tarfile
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image

from calotype.data.emoji import COLUMNS, EMBEDDED, SIZE
from calotype.utils.files import atomic_write

LEFT_OUT = ("Flags", "Symbols", "Component")  # Component: the five skin tones as swatches
EXPECTED = {"3d": 1376, "flat": 1363, "noto": 1412}
LARGE = 256  # px at which vector drawings are rasterised before they are scaled down like the others
PER_ATLAS = 24 * COLUMNS

Draw = Callable[[str], Image.Image | None]


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def open(self, folder: Path) -> tarfile.TarFile:
        """Open the package in ``folder``, fetching it first where it is missing."""
        path = folder / self.filename
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["npm", "pack", "--silent", f"{self.name}@{self.version}"], cwd=folder, check=True)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise SystemExit(f"{path} is not {self.name}@{self.version}: delete it and run again")
        return tarfile.open(path)


FLUENT_3D = Package(
    "@lobehub/fluent-emoji-3d", "1.1.0", "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
)
FLUENT_FLAT = Package(
    "@iconify-json/fluent-emoji-flat", "1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"
)
NOTO = Package("emoji-datasource-google", "16.0.0", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438")
NAMES = Package("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")


def read(package: tarfile.TarFile, path: str) -> bytes:
    file = package.extractfile(f"package/{path}")
    assert file is not None, path
    return file.read()


def read_images(package: tarfile.TarFile, folder: str) -> dict[str, bytes]:
    """Map code points (``1f34e``) to the image files in ``folder``, in one pass over the tarball."""
    inside = (member for member in package if member.name.startswith(f"package/{folder}/"))
    return {Path(member.name).stem: read(package, member.name.removeprefix("package/")) for member in inside}


def concepts(noto: tarfile.TarFile, names: tarfile.TarFile) -> list[dict[str, Any]]:
    """List what is drawn, in Unicode's order: name and tags from emojibase, categories from emoji-datasource."""
    labels = {plain_code(entry["hexcode"]): entry for entry in json.loads(read(names, "en/data.json"))}
    listed = []
    for entry in sorted(json.loads(read(noto, "emoji.json")), key=lambda entry: entry["sort_order"]):
        if entry["category"] in LEFT_OUT:
            continue
        label = labels[plain_code(entry["unified"])]
        listed.append(
            {
                "hexcode": entry["unified"].lower(),
                "name": plain_words(label["label"]),
                "category": entry["category"],
                "subcategory": entry["subcategory"],
                "tags": list(dict.fromkeys(plain_words(tag) for tag in label.get("tags", []))),
            }
        )
    return listed


def plain_code(code: str) -> str:
    """Drop the variation selector, which the packages do not agree on."""
    return code.lower().replace("-fe0f", "")


def plain_words(text: str) -> str:
    """Lower case ASCII: ``Rescue worker’s piñata`` becomes ``rescue worker's pinata``."""
    letters = unicodedata.normalize("NFKD", text.replace("’", "'")).encode("ascii", "ignore").decode()
    return re.sub(r"\s+", " ", letters).strip().lower()


def files_of(images: dict[str, bytes]) -> Draw:
    def draw(hexcode: str) -> Image.Image | None:
        return Image.open(io.BytesIO(images[hexcode])) if hexcode in images else None

    return draw


def vectors_of(package: tarfile.TarFile) -> Draw:
    """Draw from an Iconify package: ``chars.json`` names the icon of a code point, ``icons.json`` has its SVG body."""
    icons = json.loads(read(package, "icons.json"))
    icon_names = {plain_code(code): name for code, name in json.loads(read(package, "chars.json")).items()}

    def draw(hexcode: str) -> Image.Image | None:
        name = icon_names.get(plain_code(hexcode))
        if name is None:
            return None
        icon = icons["icons"][icons["aliases"].get(name, {}).get("parent", name)]
        box = f"0 0 {icon.get('width', icons['width'])} {icon.get('height', icons['height'])}"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{LARGE}" height="{LARGE}">'
        svg = f"{head}{icon['body']}</svg>"
        return Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)))

    return draw


def on_white(image: Image.Image) -> Image.Image:
    """Composite on white, then scale down: the same as scaling premultiplied colours, so edges get no dark fringe."""
    drawing = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", drawing.size, "white"), drawing).convert("RGB")
    return flat if flat.size == (SIZE, SIZE) else flat.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def atlases(images: list[Image.Image]) -> Iterator[Image.Image]:
    """Lay the images out row by row, ``COLUMNS`` to a row, ``PER_ATLAS`` to an atlas."""
    for start in range(0, len(images), PER_ATLAS):
        part = images[start : start + PER_ATLAS]
        atlas = Image.new("RGB", (COLUMNS * SIZE, -(-len(part) // COLUMNS) * SIZE), "white")
        for index, image in enumerate(part):
            row, column = divmod(index, COLUMNS)
            atlas.paste(image, (column * SIZE, row * SIZE))
        yield atlas


def write_style(style: str, draw: Draw, listed: list[dict[str, Any]]) -> list[str]:
    """Write the atlases of one style, note in ``listed`` who has an image, and return the files' names."""
    images = []
    for concept in listed:
        if (image := draw(concept["hexcode"])) is not None:
            concept.setdefault("styles", []).append(style)
            images.append(on_white(image))
    if len(images) != EXPECTED[style]:
        raise SystemExit(f"{style}: {len(images)} images, expected {EXPECTED[style]}")
    names = []
    for number, atlas in enumerate(atlases(images)):
        names.append(f"{style}-{number}.webp")
        with atomic_write(EMBEDDED / names[-1]) as temporary:
            atlas.save(temporary, "WEBP", lossless=True, quality=100, method=6)
        print(f"{names[-1]}: {(EMBEDDED / names[-1]).stat().st_size / 2**20:.2f} MiB")
    return names


def write_table(atlas_names: dict[str, list[str]], listed: list[dict[str, Any]]) -> None:
    """Write ``emoji.json`` with one concept to a line, so that a change can be read."""
    lines = ",\n".join(json.dumps(concept, ensure_ascii=False) for concept in listed)
    with atomic_write(EMBEDDED / "emoji.json") as temporary:
        temporary.write_text(
            f'{{"atlases": {json.dumps(atlas_names)},\n"concepts": [\n{lines}\n]}}\n', encoding="utf-8"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="folder of the .tgz files")
    folder = parser.parse_args().packages
    with (
        FLUENT_3D.open(folder) as fluent_3d,
        FLUENT_FLAT.open(folder) as fluent_flat,
        NOTO.open(folder) as noto,
        NAMES.open(folder) as names,
    ):
        listed = concepts(noto, names)
        styles: dict[str, Draw] = {
            "3d": files_of(read_images(fluent_3d, "assets")),
            "flat": vectors_of(fluent_flat),
            "noto": files_of(read_images(noto, "img/google/64")),
        }
        write_table({style: write_style(style, draw, listed) for style, draw in styles.items()}, listed)


if __name__ == "__main__":
    main()
