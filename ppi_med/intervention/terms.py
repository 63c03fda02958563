"""PPI without an engine: from image, saliency and labels to altered images and weighted terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ppi_med.intervention.contrasts import CONTRASTS, Contrast, Contrasts, TermsResult
from ppi_med.intervention.divergence import DivergenceGuard
from ppi_med.intervention.fills import Fill, make_fill, remove
from ppi_med.intervention.labels import check_label_values, class_index
from ppi_med.intervention.losses import (
    CONTRAST_FORMS,
    adversarial_loss,
    contrast_loss,
    sparsity_loss,
)
from ppi_med.intervention.maps import SaliencyToMap
from ppi_med.intervention.masks import Mask, SoftMask
from ppi_med.intervention.numeric import check_image, check_saliency, choose, plain
from ppi_med.intervention.pairing import PAIRINGS, draw_partners
from ppi_med.intervention.randomness import RandomState, move_at_random
from ppi_med.intervention.shared_place import SharedPlace
from ppi_med.intervention.weights import Weight, make_weight

__all__ = ["PPITerms", "TermsResult"]

OWN = "own"
"""Pairing: x' is masked by its own map."""


class PPITerms:
    """Builds x* and x' and computes L_con, L_ad and L_reg (eq. 1-5, Appendix B).

    x* = x - T(s(x)) . x is pushed to not-y; x' = x - T(s(x_j)) . x keeps y; ||s||_1 is small. With
    a fill other than zero the removed content is replaced, in both. One step is

        contrasts = terms.contrast_images(image, saliency, label, num_logits)
        outputs = network(contrasts.batch)
        result = terms.losses(contrasts, outputs, cls_loss, epoch, iteration)
        (cls_loss + result.total).backward()

    A batch of one has no partner: x' is then masked by a random move of the image's own mask (for
    the shared place: only until there is a running mean), and exchange follows
    `ExchangeFill(alone=...)`.

    Args:
        mask: T for x* and x' (default `SoftMask()`).
        mask_prime: another T for x' (default: `mask`).
        to_map: saliency to map (default `SaliencyToMap()`).
        fill: `zero` (default), `mean`, `blur`, `exchange`, a number or a `Fill`.
        fill_pairing: source of exchanged content: `any` (default), `same_class`, `other_class`.
        pairing: source of the mask of x': `any` (default), `same_class`, `other_class`, `shared` or
            a `SharedPlace`; or `own`, with a `ComplementMask` as `mask_prime`: x' then keeps what
            the map shows, and must keep the class.
        spare_shared: leave the shared place out of the mask of x* (default False). L_con
            strengthens what the map shows as evidence of the class; what all images share is no
            evidence. Needs the shared place.
        detach_prime: cut the gradient of the masks of x' in the map, so that L_ad can't be lowered
            by moving the maps of other samples away; default False, as printed. The shared place
            has its own such option, on by default.
        contrasts: `con`, `ad` or both (default); may be empty (L_reg alone).
        alternate: one contrast per step, in turn, instead of all in each (default False). The
            weights are unchanged, so each term counts half as often.
        con_form: `bounded` (default) or `printed`, see `contrast_loss`.
        con_weight: number or `Weight` (default 0.1).
        ad_weight: number or `Weight` (default 1).
        reg_weight: number or `Weight` (default 0: L_reg is reported only).
        reg_on: `saliency` (default), or `map`: ||.||_1 of the normalised map.
        reg_per: `image` (default) or `element`, see `sparsity_loss`.
        skip_empty: L_con leaves out samples whose mask is empty (x* = x: it would work against
            L_cls); default True.
        guard: checks the terms of each step (default `DivergenceGuard()`; `every=0` = never).
        seed: seed of partners and places. The handler gives each of several processes draws of its
            own (`separate`).

    Raises:
        ValueError: an unknown name or a wrong number.

    Examples:
        >>> terms = PPITerms(fill="exchange", pairing="shared")
        >>> image, label = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 1, 0])
        >>> contrasts = terms.contrast_images(image, image * 0.1, label, num_logits=1)
        >>> outputs = contrasts.batch.mean((2, 3))
        >>> result = terms.losses(contrasts, outputs, torch.tensor(0.7), epoch=1, iteration=1)
        >>> sorted(result.values)
        ['ad', 'con', 'reg']
    """

    def __init__(
        self,
        mask: Mask | None = None,
        mask_prime: Mask | None = None,
        to_map: SaliencyToMap | None = None,
        fill: str | float | Fill = "zero",
        fill_pairing: str = "any",
        pairing: str | SharedPlace = "any",
        spare_shared: bool = False,
        detach_prime: bool = False,
        contrasts: Sequence[str] = CONTRASTS,
        alternate: bool = False,
        con_form: str = "bounded",
        con_weight: float | Weight = 0.1,
        ad_weight: float | Weight = 1.0,
        reg_weight: float | Weight = 0.0,
        reg_on: str = "saliency",
        reg_per: str = "image",
        skip_empty: bool = True,
        guard: DivergenceGuard | None = None,
        seed: int = 0,
    ) -> None:
        self.mask = SoftMask() if mask is None else mask
        self.mask_prime = self.mask if mask_prime is None else mask_prime
        self.to_map = SaliencyToMap() if to_map is None else to_map
        self.fill = make_fill(fill)
        self.fill_pairing = choose("fill_pairing", fill_pairing, PAIRINGS)
        self.shared, self.pairing = _split_pairing(pairing)
        if self.pairing == OWN and mask_prime is None:
            raise ValueError("pairing='own' needs a mask_prime: by the mask of x* x' would be x*.")
        if spare_shared and (self.shared is None or "ad" not in contrasts):
            raise ValueError("spare_shared needs pairing='shared' and the contrast 'ad'.")
        self.spare_shared = spare_shared
        self.detach_prime = detach_prime
        self.contrasts = tuple(choose("contrasts", name, CONTRASTS) for name in contrasts)
        self.alternate = alternate
        self.con_form = choose("con_form", con_form, CONTRAST_FORMS)
        self.weights = {
            "con": make_weight(con_weight),
            "ad": make_weight(ad_weight),
            "reg": make_weight(reg_weight),
        }
        self.reg_on = choose("reg_on", reg_on, ("saliency", "map"))
        self.reg_per = choose("reg_per", reg_per, ("image", "element"))
        self.skip_empty = skip_empty
        self.guard = DivergenceGuard() if guard is None else guard
        self.random = RandomState(seed)
        self.steps = 0
        self._values_checked = False

    def reseed(self, seed: int) -> None:
        """Start the draws of partners and places again (for example seed + rank)."""
        self.random.reseed(seed)

    def separate(self, rank: int) -> None:
        """Give one of several processes its own draws; the first, 0, keeps its draws.

        A mask of the shared place is the same on all processes, and so are its draws.

        Args:
            rank: the process's number.
        """
        self.random.separate(rank)
        alike = self.mask_prime if self.shared is not None else None
        for mask in (self.mask, self.mask_prime):
            if mask is not alike:
                mask.separate(rank)

    @property
    def current(self) -> tuple[str, ...]:
        """The contrasts of the coming step."""
        if self.alternate and self.contrasts:
            return (self.contrasts[self.steps % len(self.contrasts)],)
        return self.contrasts

    @property
    def needs_map_gradient(self) -> bool:
        """Whether the coming step uses a gradient in the saliency.

        If not, a saliency without graph is enough; the result is the same and the step cheaper.
        """
        through_reg = not self.weights["reg"].off
        through_star = "con" in self.current and self.mask.differentiable
        cut = self.detach_prime or (self.shared is not None and self.shared.detach)
        through_prime = "ad" in self.current and self.mask_prime.differentiable and not cut
        return through_reg or through_star or through_prime

    def contrast_images(
        self, image: Tensor, saliency: Tensor, label: Tensor, num_logits: int
    ) -> Contrasts:
        """Build the altered images of one step, and count the step.

        Args:
            image: `(N, C, *spatial)`, taken without its gradient.
            saliency: `(N, C or 1, *spatial)`, with a graph if `needs_map_gradient`.
            label: `(N,)`, `(N, 1)` or one-hot `(N, K)`.
            num_logits: K, the number of logits of the network (1 = a single sigmoid logit).

        Returns:
            The images, their masks and what they were made from.

        Raises:
            TypeError: image or saliency are not floating.
            ValueError: shapes or label values don't fit.
        """
        check_image(image, "image")
        image = plain(image).detach()
        check_saliency(saliency, image)
        classes = self._classes(label, num_logits, image)
        saliency_map = self.to_map(saliency)
        names = self.current
        self.steps += 1
        partner = self._draw(self.fill_pairing, classes) if self.fill.needs_partner else None
        filling = self.fill(image, partner)
        star = self.mask(saliency_map) if "con" in names else None
        prime = self._prime_mask(saliency_map, star, classes) if "ad" in self.contrasts else None
        if star is not None and prime is not None and self.spare_shared:
            star = star * (1 - prime.detach())
        parts: dict[str, Contrast] = {}
        if star is not None:
            parts["con"] = Contrast(remove(image, star, filling), star)
        if prime is not None and "ad" in names:
            parts["ad"] = Contrast(remove(image, prime, filling), prime)
        return Contrasts(parts, plain(saliency), saliency_map, classes)

    def _prime_mask(self, saliency_map: Tensor, star: Tensor | None, classes: Tensor) -> Tensor:
        """Return the masks of x': another sample's, or the shared place's."""
        if self.shared is not None:
            alone = self.shared.rests_on_one_map(saliency_map)
            mask = self.mask_prime(self.shared.update(saliency_map))
        else:
            alone = saliency_map.shape[0] == 1 and self.pairing != OWN
            reuse = star is not None and self.mask_prime is self.mask
            mask = star if star is not None and reuse else self.mask_prime(saliency_map)
            mask = mask if self.pairing == OWN else mask[self._draw(self.pairing, classes)]
        mask = mask.detach() if self.detach_prime else mask
        return move_at_random(mask, self.random.generator) if alone else mask

    def _draw(self, kind: str, classes: Tensor) -> Tensor:
        return draw_partners(kind, classes.shape[0], self.random.generator, classes)

    def _classes(self, label: Tensor, num_logits: int, image: Tensor) -> Tensor:
        """Return class indices; on an accelerator values are checked in the first step only."""
        if not self._values_checked:
            check_label_values(label, num_logits)
            self._values_checked = True
        return class_index(label, num_logits, image.shape[0]).to(image.device)

    def losses(
        self,
        contrasts: Contrasts,
        outputs: Tensor | None,
        cls_loss: Tensor,
        epoch: int,
        iteration: int,
    ) -> TermsResult:
        """Compute the terms of one step and weight them.

        Args:
            contrasts: what `contrast_images` returned.
            outputs: logits of `contrasts.batch`, `(N or 2N, K)`; None if there is no contrast.
            cls_loss: L_cls of the step, a scalar (for balanced weights and the guard).
            epoch: from 1.
            iteration: from 1, over all epochs.

        Returns:
            The weighted total and its parts.

        Raises:
            DivergenceError: a term is not finite or too large.
            ValueError: outputs don't fit the altered images, or L_reg has a weight but the saliency
                has no graph.
        """
        terms = self._contrast_terms(contrasts, outputs)
        terms["reg"] = self._sparsity(contrasts)
        weights = {
            name: self.weights[name](epoch, iteration, term, cls_loss)
            for name, term in terms.items()
        }
        self.guard.check({"cls": cls_loss, **terms}, weights, epoch, iteration)
        total = torch.stack([term * weights[name] for name, term in terms.items()]).sum()
        removed = {name: part.mask.detach().mean() for name, part in contrasts.parts.items()}
        values = {name: term.detach() for name, term in terms.items()}
        return TermsResult(total, values, weights, removed)

    def _contrast_terms(self, contrasts: Contrasts, outputs: Tensor | None) -> dict[str, Tensor]:
        if not contrasts.parts:
            return {}
        if outputs is None:
            raise ValueError("outputs are missing: pass the network's output on contrasts.batch.")
        terms: dict[str, Tensor] = {}
        for name, output in contrasts.split(outputs).items():
            if name == "con":
                weight = contrasts.parts[name].removed if self.skip_empty else None
                terms[name] = contrast_loss(output, contrasts.classes, self.con_form, weight)
            else:
                terms[name] = adversarial_loss(output, contrasts.classes)
        return terms

    def _sparsity(self, contrasts: Contrasts) -> Tensor:
        """Return L_reg, without a graph if it has no weight."""
        measured = contrasts.saliency if self.reg_on == "saliency" else contrasts.saliency_map
        if self.weights["reg"].off:
            return sparsity_loss(measured.detach(), self.reg_per)
        if torch.is_grad_enabled() and not measured.requires_grad:
            raise ValueError(
                "L_reg has a weight but the saliency has no graph, so it would have no effect: "
                "compute the saliency with create_graph=True or set reg_weight=0."
            )
        return sparsity_loss(measured, self.reg_per)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs to continue bit for bit."""
        return {
            "steps": self.steps,
            "random": self.random.state_dict(),
            "shared": None if self.shared is None else self.shared.state_dict(),
            "mask": self.mask.state_dict(),
            "mask_prime": self.mask_prime.state_dict(),
            "weights": {name: weight.state_dict() for name, weight in self.weights.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict()`.

        Raises:
            ValueError: the state is of terms with another configuration.
        """
        if (self.shared is None) != (state.get("shared") is None):
            raise ValueError(
                "the saved state and these terms don't both use the shared place: resume with the "
                "`pairing` of the saved run."
            )
        where = _first_difference(state, self.state_dict())
        if where is not None:
            raise ValueError(
                f"the saved state is of other terms, its {where or 'entries'} do not fit: resume "
                "with the masks and weights of the saved run."
            )
        self.steps = int(state["steps"])
        self.random.load_state_dict(state["random"])
        if self.shared is not None:
            self.shared.load_state_dict(state["shared"])
        self.mask.load_state_dict(state["mask"])
        self.mask_prime.load_state_dict(state["mask_prime"])
        for name, weight in self.weights.items():
            weight.load_state_dict(state["weights"][name])


def _split_pairing(pairing: str | SharedPlace) -> tuple[SharedPlace | None, str]:
    """Return the shared place (if it is the pairing) and the pairing's name."""
    if isinstance(pairing, SharedPlace):
        return pairing, "shared"
    choose("pairing", pairing, (*PAIRINGS, OWN, "shared"))
    return (SharedPlace() if pairing == "shared" else None), pairing


def _first_difference(saved: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    """Return the path of the first part with other entries than expected; None if all fit.

    Values are not compared: they change during training, the entries do not.

    Examples:
        >>> _first_difference({"weights": {"con": {}}}, {"weights": {"con": {"running": None}}})
        'weights.con'
    """
    if saved.keys() != own.keys():
        return ""
    for name, part in own.items():
        if not isinstance(part, Mapping):
            continue
        other = saved[name]
        found = _first_difference(other, part) if isinstance(other, Mapping) else ""
        if found is not None:
            return f"{name}.{found}" if found else name
    return None
