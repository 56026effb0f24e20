"""Test sets of WMT (newstest), to judge translation by: two files whose lines belong together.

sacrebleu's table tells where a set lies, the MD5 of its archive and the names of its files. Its own
download is not used: it begins anew where it broke off, leaves a torn archive under its last name,
and unpacks whatever an archive holds, into the home folder. Here an archive is fetched like all
text, and the two files are read out of it; nothing is unpacked.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import unescape

from data_prep.claims import one_at_a_time
from data_prep.fetching import Checksum, Patience, fetch
from data_prep.progress import note
from data_prep.reading import naming_damage
from data_prep.workspace import naming_disk_errors
from xlm_lightning.atomic import write_text
from xlm_lightning.errors import UserError, did_you_mean

PATIENT = Patience()
SEGMENT = re.compile(r"^<seg .*?>(.*)</seg>", re.MULTILINE)  # as sacrebleu: it is no true SGML
QUOTES = {"&quot;": '"', "&apos;": "'"}  # beside those that `unescape` knows

Sets = Mapping[str, Mapping[str, str]]  # pair (`de-en`) -> split -> sacrebleu's name, as `wmt16`


@dataclass(frozen=True)
class _TestSet:
    """One set in one direction."""

    name: str
    url: str
    checksum: Checksum
    members: Mapping[str, str]  # language -> name in the archive; source first


def check_test_sets(sets: Sets) -> None:
    """Raise `UserError` for a set that does not exist or has not that pair: before any fetch."""
    for _ in _chosen(sets):
        pass


def fetch_test_sets(
    folder: Path, sets: Sets, *, patience: Patience = PATIENT
) -> dict[str, dict[str, list[Path]]]:
    """Split -> side of a pair (`de-en.de`) -> its text file in `folder`, fetched if need be.

    An archive that lies in `folder` already is taken where its MD5 is right.
    """
    files: dict[str, dict[str, list[Path]]] = {}
    with naming_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for split, test_set in _chosen(sets):
            pair = "-".join(sorted(test_set.members))
            for language, path in _texts(folder, test_set, patience).items():
                files.setdefault(split, {})[f"{pair}.{language}"] = [path]
    return files


def _chosen(sets: Sets) -> Iterator[tuple[str, _TestSet]]:
    """Split and set, in their order."""
    from sacrebleu import DATASETS  # takes 0.1 s to import

    for pair, splits in sets.items():
        for split, name in splits.items():
            key = f"corpus.parallel.{pair}.{split}={name}"
            if name not in DATASETS:
                near = did_you_mean(name, DATASETS)
                raise UserError(f"{key}: no test set of sacrebleu (wmt16 is newstest2016).{near}")
            test_set = _in_table(name, pair)
            if test_set is None:
                fitting = [other for other in DATASETS if _in_table(other, pair) is not None]
                raise UserError(
                    f"{key}: has no {pair} in a format that is read here; "
                    f"{', '.join(fitting) or 'no set'} has"
                )
            yield split, test_set


def _in_table(name: str, pair: str) -> _TestSet | None:
    """A set of sacrebleu, None where it is not one archive with a file for each language."""
    from sacrebleu import DATASETS  # see `_chosen`

    known = DATASETS[name]
    archives = list(zip(known.data or [], known.md5 or [], strict=False))
    members = known.langpairs.get(pair)
    is_read = isinstance(members, list) and len(members) == 2 and len(archives) == 1
    if not is_read or not all(member.endswith(".sgm") for member in members):
        return None
    [(url, md5)] = archives
    by_language = dict(zip(pair.split("-"), members, strict=True))
    return _TestSet(name, url, Checksum("md5", md5), by_language)


def _texts(folder: Path, test_set: _TestSet, patience: Patience) -> dict[str, Path]:
    """Language -> its text, a segment a line."""
    name = test_set.name.replace("/", "_")
    direction = "-".join(test_set.members)
    targets = {
        language: folder / f"{name}.{direction}.{language}.txt" for language in test_set.members
    }
    with one_at_a_time(folder / f".{name}.lock", f"fetching {test_set.name}"):
        if all(path.is_file() for path in targets.values()):
            note(f"{', '.join(path.name for path in targets.values())}: already there")
            return targets
        archive = folder / f"{name}.{test_set.url.rpartition('/')[2]}"
        fetch(test_set.url, archive, checksum=test_set.checksum, patience=patience)
        if wrong := test_set.checksum.complaint(archive):  # somebody else has put it there
            raise UserError(f"{archive} {wrong}; remove it, and it is fetched from {test_set.url}")
        lines = {
            language: list(_segments(archive, member))
            for language, member in test_set.members.items()
        }
        for language, path in targets.items():
            write_text(path, "".join(f"{line}\n" for line in lines[language]))
    return targets


def _segments(archive: Path, member: str) -> Iterator[str]:
    """The text of each segment of a file in an archive, on one line and as people write it."""
    try:
        with naming_damage(archive), tarfile.open(archive) as tar:
            file = tar.extractfile(member)
            content = b"" if file is None else file.read()
    except (tarfile.TarError, KeyError) as error:
        raise UserError(f"{archive}: {member} cannot be read from it ({error})") from error
    for segment in SEGMENT.findall(content.decode("utf-8")):
        yield " ".join(unescape(segment, QUOTES).split())
