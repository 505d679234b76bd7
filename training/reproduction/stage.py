"""What runs share: the plan, its traffic and what is known of it, and token shards made once."""

from functools import cached_property
from pathlib import Path

from training.assemble import Knowledge, learn, read_parts
from training.fit import learn_tokenizer
from training.reproduction.plan import Plan
from training.reproduction.traffic import Traffic, simulate
from training.sharding import shard_clean
from training.shards import Shards
from training.splits import Split, split_drives
from training.tokenizers import describe
from training.traces import Traces

__all__ = ["Stage"]


class Stage:
    """A plan and the folder that it is run in; what is asked for is made when it is first asked for."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self._shards: dict[str, tuple[Shards, float]] = {}

    @cached_property
    def traffic(self) -> Traffic:
        """Captures."""
        return simulate(self.plan.traffic, self.folder / "traffic")

    @cached_property
    def clean(self) -> Traces:
        """The clean captures."""
        return Traces(self.traffic.clean, self.traffic.names)

    @cached_property
    def known(self) -> Knowledge:
        """What clean traffic says without a model."""
        return learn(self.clean)

    @property
    def parts(self) -> Split:
        """Of clean traffic: the beginning of each drive trains, its end is never trained on."""
        return split_drives(self.known.line_counts)

    @property
    def bundle(self) -> Path:
        """Of the start run."""
        return self.folder / "start"

    def shards(self, kind: str) -> tuple[Shards, float]:
        """Clean traffic in tokens of a kind, and the share of unseen lines that it has unknown tokens for."""
        if kind not in self._shards:
            tokenizer = learn_tokenizer(self.clean, kind, self.known, self.parts.train)
            shards = shard_clean(self.clean, tokenizer, self.known.cycles_ns, self.folder / "shards" / kind)
            unseen = read_parts(self.clean, "reading", self.known, self.parts.test)
            self._shards[kind] = shards, describe(tokenizer, unseen).unknown_lines_share
        return self._shards[kind]
