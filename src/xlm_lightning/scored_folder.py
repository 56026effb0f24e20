"""A prepared folder that a trained model is scored on, once it has proved to fit the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest
from xlm_lightning.streaming.mirror import Mirror, mirror_of
from xlm_lightning.streaming.pairs import PairShards
from xlm_lightning.text.vocabulary import Vocabulary
from xlm_lightning.trained import TrainedModel
from xlm_lightning.trained_translator import TrainedTranslator


@dataclass(frozen=True)
class ScoredFolder:
    """One split of a prepared folder, or of the mirror of one."""

    data_dir: str  # as it was named
    folder: Path
    manifest: Manifest
    mirror: Mirror | None
    split: str

    @classmethod
    def open(
        cls,
        trained: TrainedModel | TrainedTranslator,
        split: str,
        *,
        dir: str | None,
        cache_dir: str,
        cache_gb: float,
        retry_minutes: float,
    ) -> ScoredFolder:
        """`dir` None: the folder that the model was trained on. The others: see `mirror_of`.

        Raises `UserError` where there is none, or it is not of the model's words and languages.
        """
        data_dir = dir or trained.data_dir
        if data_dir is None:
            raise UserError("data.dir=null: say data.dir=DIR, the prepared folder to score")
        mirror = mirror_of(data_dir, Path(cache_dir), cache_gb, retry_minutes)
        folder = Path(data_dir) if mirror is None else mirror.folder
        manifest = Manifest.load(folder) if mirror is None else mirror.manifest
        opened = cls(data_dir, folder, manifest, mirror, split)
        opened._check_fit(trained)
        return opened

    def require_parallel_text(self) -> None:
        """Raise `UserError` where the split has none."""
        if not self.manifest.parallel.get(self.split):
            raise UserError(f"data.dir={self.data_dir} has no parallel text for split={self.split}")

    def fetch(self, *, parallel: bool) -> None:
        """Bring the texts of the split, or its parallel text, where the folder is a mirror."""
        if self.mirror is not None:
            self.mirror.fetch_at_start(self.manifest.read_files(self.split, parallel=parallel))

    def pairs(self, *, max_tokens: int, max_length: int) -> PairShards:
        """The parallel text of the split, see `PairShards`."""
        limits = {"max_tokens": max_tokens, "max_length": max_length}
        return PairShards(self.folder, self.split, self.manifest, self.mirror, **limits)

    def _check_fit(self, trained: TrainedModel | TrainedTranslator) -> None:
        manifest, named = self.manifest, f"data.dir={self.data_dir}"
        if manifest.vocab_size != trained.model.arguments["vocab_size"]:
            raise UserError(
                f"{named} has {manifest.vocab_size} token ids, the model "
                f"{trained.model.arguments['vocab_size']}: prepare the text with the model's own "
                "codes and vocabulary (xlm-prepare bpe.codes=FILE bpe.vocab=FILE)"
            )
        words = trained.load_text_model().vocabulary.words
        if Vocabulary.load(self.folder / "vocab").words != words:
            raise UserError(
                f"{named} was encoded with other words than the model's: prepare the text with the "
                "model's own codes and vocabulary (xlm-prepare bpe.codes=FILE bpe.vocab=FILE)"
            )
        if manifest.languages != trained.languages:
            raise UserError(
                f"{named} holds {', '.join(manifest.languages)}, the model was trained on "
                f"{', '.join(trained.languages)}"
            )
        if isinstance(trained, TrainedTranslator):
            self.require_parallel_text()
        elif not manifest.splits.get(self.split):
            splits = list(manifest.splits)
            raise UserError(f"{named} has no split {self.split}; it has {splits}")
