"""One size of the sweep: kept tokens, priors and tails fitted to the same text, and the q that they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn
from transformers import PreTrainedModel

from drafters.affinity.kernels import covariance, softmax_kernel
from drafters.affinity.prior import AffinityPrior, Statistics, candidate_priors
from drafters.affinity.share_fit import ShareFit
from drafters.models.forms import pruned_form, tail_form
from drafters.models.tail import Moments, Tail, factorise
from drafters.probs import Sampling, warp
from drafters.samplers.proposal.rdk import RDK
from drafters.samplers.proposal.tli import TLI
from drafters.vocab.alignment import VocabMap, identity, restrict
from pipeline.fit.tail_fit import likeliest, named

SCALES = (0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0)  # of a prior's shares
HEALED = "tail_distilled"  # the method of a drafter whose head and norms were trained together with its tail
TAUS = (1e-6, 1e-5, 1e-4, 1e-3)  # of the paper's kernel; Omega's entries are small


@dataclass
class Size:
    """What is known of one number of kept tokens."""

    kept: Tensor  # int64 (D,)
    vocabulary: int  # V
    statistics: Statistics
    moments: Moments
    vocab: VocabMap = field(init=False)
    priors: dict[str, AffinityPrior] = field(default_factory=dict)
    kernels: dict[float, Tensor] = field(default_factory=dict)  # tau -> M (D, V)
    tails: dict[str, Tail] = field(default_factory=dict)
    healed: PreTrainedModel | None = None  # form of V columns

    def __post_init__(self) -> None:
        self.vocab = restrict(identity(self.vocabulary), self.kept)

    @property
    def whole(self) -> bool:
        """Whether nothing is pruned: all tokens are kept."""
        return len(self.kept) == self.vocabulary

    def add(self, ids: Tensor, p: Tensor, logits: Tensor, hidden: Tensor, sampling: Sampling) -> None:
        """Contexts of one window: distributions at T = 1 (n, V), the drafter's logits (n, V), hidden states (n, H)."""
        if self.whole:
            return
        self.statistics.add(p, warp(logits[:, self.kept], sampling), self.vocab)
        self.statistics.seen(ids)
        self.moments.add(hidden, p, 1 - p[:, self.kept].sum(-1).clamp(max=1))

    def fit(
        self, head: nn.Linear, tails: Sequence[tuple[int, float]], neighbours: int, laws: Tensor, kernel_bytes: int
    ) -> None:
        """Priors, the paper's kernels where D V fp32 fits into `kernel_bytes`, and training-free tails: (rank, share covered)."""
        if self.whole:
            return
        self.priors = candidate_priors(self.statistics, self.vocab, 1, neighbours)
        if 4 * len(self.kept) * self.vocabulary * len(TAUS) <= kernel_bytes:
            omega = covariance(laws, self.kept)
            self.kernels = {tau: softmax_kernel(omega, tau) for tau in TAUS}
        pruned = (self.vocab.to_drafter[: len(head.weight)] < 0).nonzero().flatten()
        for rank, share in tails:
            ids = likeliest(pruned, self.moments.mass, share)
            bias = None if head.bias is None else head.bias.detach()[ids]
            self.tails[named(rank, share)] = factorise(head.weight.detach()[ids], bias, ids, self.moments, rank)[0]

    def refine(self, steps: int) -> ShareFit | None:
        """Take the fit part a second time, to fit the shares per donor of the mean prior."""
        return ShareFit(self.priors["mean"], self.vocab, steps) if "mean" in self.priors else None

    def laws(
        self, logits: Tensor, sampling: Sampling, wanted: tuple[str, ...] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """(candidate, q (n, V)) of TLI, of every prior at every scale, and of every kernel, from logits (n, V).

        Candidates are called tli, rdk/<prior>/<scale>, rdk_exact/<tau>; `wanted`: only these.
        """
        q = warp(logits[:, self.kept], sampling)
        tli = TLI(self.vocab).lift(q)

        def asked(name: str) -> bool:
            return wanted is None or name in wanted

        if asked("tli"):
            yield "tli", tli
        for name, prior in self.priors.items():
            scales = [scale for scale in SCALES if asked(f"rdk/{name}/{scale:g}")]
            if scales:
                given = RDK(self.vocab, prior).lift(q)
            for scale in scales:
                yield f"rdk/{name}/{scale:g}", tli + (given - tli) * scale
        for tau, kernel in self.kernels.items():
            if asked(f"rdk_exact/{tau:g}"):
                yield f"rdk_exact/{tau:g}", q @ kernel

    def forms(self, model: PreTrainedModel) -> dict[str, PreTrainedModel]:
        """The unpruned model with each tail, and the healed one if there is one."""
        short = pruned_form(model, self.kept)
        found = {name: tail_form(short, tail) for name, tail in self.tails.items()}
        return found if self.healed is None else found | {HEALED: self.healed}
