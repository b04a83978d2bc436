"""Fetch the libraries that the page uses, as their authors released them on npm:  python vendor/update.py

Only what the page loads is kept, unchanged. VERSIONS.json says where each file came from. It wants `npm`.
"""

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Package(NamedTuple):
    """What is taken of a package: the beginnings and ends of the names of its files."""

    name: str
    version: str
    licence: str
    files: tuple[tuple[str, str], ...]


PACKAGES = (
    Package("d3", "7.9.0", "ISC", (("dist/d3.min.js", ""), ("LICENSE", ""))),
    Package(
        "katex",
        "0.16.22",
        "MIT",
        (("dist/katex.min.", "js"), ("dist/katex.min.", "css"), ("dist/fonts/", ".woff2"), ("LICENSE", "")),
    ),
)


def fetch(package: Package, into: Path) -> dict[str, object]:
    """Unpack the chosen files of a package into its folder; what VERSIONS.json says of it."""
    with tempfile.TemporaryDirectory() as folder:
        asked = ["npm", "pack", f"{package.name}@{package.version}", "--json"]
        packed = json.loads(subprocess.run(asked, cwd=folder, check=True, capture_output=True).stdout)[0]
        files: dict[str, str] = {}
        with tarfile.open(Path(folder) / packed["filename"]) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                name = member.name.removeprefix("package/")
                if not any(name.startswith(start) and name.endswith(end) for start, end in package.files):
                    continue
                content = archive.extractfile(member)
                assert content is not None
                path = into / package.name / name.removeprefix("dist/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
                files[path.relative_to(into).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "version": package.version,
        "licence": package.licence,
        "source": f"https://registry.npmjs.org/{package.name}/-/{package.name}-{package.version}.tgz",
        "integrity": packed["integrity"],
        "sha256": files,
    }


def main() -> None:
    versions = {package.name: fetch(package, HERE) for package in PACKAGES}
    (HERE / "VERSIONS.json").write_text(json.dumps(versions, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
