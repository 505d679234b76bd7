"""Whether a card, its driver or the kernel make one frame of several before they are captured.

What merges UDP was tried on a veth pair (kernel 6.18): GRO together with its forwarding or its list of
fragments on the receiving side, and UDP segmentation on the sending side. GRO alone merges TCP, and UDP of
sockets that ask for it; LRO and GRO in hardware are for TCP, but what a card does is its maker's choice.
"""

from ecustream.config import CaptureConfig
from ecustream.doctor.facts.card import CardFacts
from ecustream.doctor.findings import Finding, ok, problem, unchecked, warning

__all__ = ["judge_offloads"]

_SHORT = {"rx-gro": "gro", "rx-lro": "lro"}
_MERGES_UDP = ("rx-gro-list", "rx-udp-gro-forwarding")
_MERGES = ("rx-gro", "rx-lro", "rx-gro-hw")
_CUTS_UDP = "tx-udp-segmentation"
_CUTS_TCP = ("tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-generic-segmentation")
_VLAN = "rx-vlan-hw-parse"


def judge_offloads(name: str, card: CardFacts, capture: CaptureConfig) -> list[Finding]:
    """What merges frames that come, and frames that this machine sends there.

    Args:
        name: of the interface.
        card: what the driver says.
        capture: how it is to be captured on.
    """
    if card.on is None:
        says = "the driver does not tell its offloads"
        return [unchecked("offloads", says, f"`ethtool -k {name}` should show gro and lro off", of=name)]
    return [_receiving(name, card, card.on), _sending(name, card, card.on, capture), _tags(name, card.on)]


def _receiving(name: str, card: CardFacts, on: frozenset[str]) -> Finding:
    check = "offloads"
    both = [one for one in _MERGES_UDP if one in on] if "rx-gro" in on else []
    merging = [one for one in _MERGES if one in on]
    if both:
        says = f"{_words(['rx-gro', *both])} make one frame of several UDP frames: their times are lost"
        return problem(check, says, _switch_off(name, card, [*merging, *both]), of=name)
    if merging:
        says = f"{_words(merging)} may make one frame of several; with UDP seldom, but nothing here needs it"
        return warning(check, says, _switch_off(name, card, merging), of=name)
    return ok(check, "nothing merges frames that come in (GRO and LRO are off)", of=name)


def _sending(name: str, card: CardFacts, on: frozenset[str], capture: CaptureConfig) -> Finding:
    check = "offloads, sending"
    if _CUTS_UDP in on and capture.outgoing:
        says = f"{_CUTS_UDP} is on: what a program here sends with UDP_SEGMENT is captured as one frame"
        return warning(check, says, _switch_off(name, card, [_CUTS_UDP]), of=name)
    cutting = [one for one in (_CUTS_UDP, *_CUTS_TCP) if one in on]
    if not cutting:
        return ok(check, "frames that this machine sends are captured as they are", of=name)
    if _CUTS_UDP in on:
        return ok(check, f"{_CUTS_UDP} is on, but capture.outgoing is false", of=name)
    return ok(check, f"{_words(cutting)} merge TCP alone, which is not captured", of=name)


def _tags(name: str, on: frozenset[str]) -> Finding:
    whom = "card" if _VLAN in on else "kernel"
    return ok("VLAN tags", f"the outer tag is taken out by the {whom}, and put back here", of=name)


def _words(features: list[str]) -> str:
    verb = "is" if len(features) == 1 else "are"
    return f"{', '.join(features)} ({verb} on)"


def _switch_off(name: str, card: CardFacts, features: list[str]) -> str:
    switchable = [one for one in features if one in card.switchable]
    fixed = [one for one in features if one not in card.switchable]
    line = " ".join(f"{_SHORT.get(one, one)} off" for one in switchable)
    parts = [f"`ethtool -K {name} {line}`"] if line else []
    if fixed:
        parts.append(f"the driver cannot switch {', '.join(fixed)} off: use another card")
    return "; ".join(parts)
