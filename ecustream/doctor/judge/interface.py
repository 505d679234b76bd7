"""Whether an interface can be captured on: the right to, its state, its ring, what its card lost."""

import errno
import os
from collections.abc import Sequence

from ecustream.config import CaptureConfig
from ecustream.doctor.facts.card import CardFacts
from ecustream.doctor.facts.link import LinkFacts
from ecustream.doctor.facts.right import RingTrial
from ecustream.doctor.findings import Finding, ok, problem, warning

__all__ = ["judge_link", "judge_losses", "judge_right", "judge_ring"]

_ETHERNET, _LOOPBACK = 1, 772
_USUAL_MTU = 1500
_LOST_SHARE = 1e-6
_NO_RIGHT = (errno.EPERM, errno.EACCES)


def judge_right(refusal: OSError | None, python: str) -> Finding:
    """Whether this process may capture at all.

    Args:
        refusal: why a packet socket cannot be opened.
        python: the program that would need the right.
    """
    check = "right to capture"
    if refusal is None:
        return ok(check, "this process may capture (CAP_NET_RAW)")
    if refusal.errno in _NO_RIGHT:
        return problem(
            check,
            "this process may not capture: it lacks the capability CAP_NET_RAW",
            f"`sudo setcap cap_net_raw=ep {python}`, or by systemd AmbientCapabilities=CAP_NET_RAW",
        )
    return problem(
        check,
        f"this process may not open a packet socket: {os.strerror(refusal.errno or 0)}",
        "in a systemd unit RestrictAddressFamilies= must list AF_PACKET; in a container ask its keeper",
    )


def judge_link(name: str, link: LinkFacts | None, card: CardFacts, others: Sequence[str]) -> list[Finding]:
    """Whether there is an interface that frames can come from.

    Args:
        name: of the interface.
        link: what the kernel says; None where there is none of that name.
        card: what the driver says.
        others: the interfaces that there are.
    """
    check = "interface"
    if link is None:
        there = f"there are: {', '.join(others)}"
        return [problem(check, f"does not exist; {there}", "`ip -brief link` lists them", of=name)]
    if link.hardware not in (_ETHERNET, _LOOPBACK):
        says = f"is no Ethernet interface (hardware type {link.hardware})"
        return [problem(check, says, "give the Ethernet interface below it", of=name)]
    if not link.up:
        return [problem(check, "is switched off", f"`ip link set {name} up`", of=name)]
    if link.carrier is False:
        advice = "plug the cable in and switch the other side on; of a media converter check master and slave"
        return [problem(check, "is up but has no carrier", advice, of=name)]
    figures = {"speed_mbit": card.speed_mbit, "mtu_bytes": link.mtu}
    duplex = {True: " full duplex", False: " half duplex", None: ""}[card.full_duplex]
    speed = f"{card.speed_mbit} Mbit/s{duplex}" if card.speed_mbit else "of a speed that is not told"
    driver = f", driver {card.driver}" if card.driver else ""
    found = [ok(check, f"is up, {speed}, MTU {link.mtu}{driver}", of=name, figures=figures)]
    if card.full_duplex is False:
        advice = f"`ethtool -s {name} duplex full`, or `autoneg on`, as the other side has it"
        found.append(warning("duplex", "is half duplex: frames collide and are lost", advice, of=name))
    if link.mtu < _USUAL_MTU:
        says = f"has an MTU of {link.mtu}: longer frames are not received"
        found.append(warning("MTU", says, f"`ip link set {name} mtu {_USUAL_MTU}`", of=name))
    return found


def judge_ring(name: str, trial: RingTrial, capture: CaptureConfig, card: CardFacts) -> list[Finding]:
    """Whether there was a ring on it, and which frames would get there.

    Args:
        name: of the interface.
        trial: what trying has brought.
        capture: how it is to be captured on.
        card: what the driver says.
    """
    if trial.refusal is not None:
        return [problem("ring", trial.refusal, None, of=name)]
    found = [ok("ring", f"there is memory for {capture.ring_mib} MiB in the kernel", of=name)]
    check = "promiscuous"
    if trial.promiscuous:
        return [*found, ok(check, "takes frames between others while it is captured on", of=name)]
    if capture.promiscuous:
        says = "does not become promiscuous, so unicast between others is not seen"
        found.append(warning(check, says, f"`ip link set {name} promisc on` says more", of=name))
    elif "rx-vlan-filter" in (card.on or ()):
        says = "the card lets in only VLANs that this machine is in, because capture.promiscuous is false"
        advice = f"`ethtool -K {name} rx-vlan-filter off`, or capture.promiscuous = true"
        found.append(warning(check, says, advice, of=name))
    else:
        says = "unicast between others is not seen, because capture.promiscuous is false"
        found.append(ok(check, says, of=name))
    return found


def judge_losses(name: str, before: LinkFacts | None, now: LinkFacts, card: CardFacts) -> Finding:
    """What the card lost before the kernel had it.

    Args:
        name: of the interface.
        before: as it was when capture began; None judges all since the interface was made.
        now: as it is.
        card: what the driver says.
    """
    start = before or LinkFacts(now.index)
    received = now.rx_packets - start.rx_packets
    lost = {
        "rx_missed": now.rx_missed - start.rx_missed,
        "rx_fifo": now.rx_fifo - start.rx_fifo,
        "rx_over": now.rx_over - start.rx_over,
    }
    broken = {"rx_crc": now.rx_crc - start.rx_crc, "rx_errors": now.rx_errors - start.rx_errors}
    check = "lost by the card"
    since = "while this looked" if before else "since it was made"
    figures = {**lost, **broken, "rx_packets": received, "rx_dropped": now.rx_dropped - start.rx_dropped}
    # Several drivers count one loss under several names.
    most = max(lost.values())
    if most > 0 and (before or most > _LOST_SHARE * received):
        says = f"lost {most:,} frames of {received:,} {since} ({_told(lost)}); no ledger has them"
        make = problem if before else warning
        return make(check, says, _more_slots(name, card), of=name, figures=figures)
    if (bad := max(broken.values())) > 0 and (before or bad > _LOST_SHARE * received):
        says = f"{bad:,} of {received:,} frames were damaged {since} ({_told(broken)})"
        return warning(check, says, "check cable, plugs and media converter", of=name, figures=figures)
    return ok(check, f"{received:,} frames came {since}, {most or 'none'} lost", of=name, figures=figures)


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)


def _more_slots(name: str, card: CardFacts) -> str:
    if card.rx_slots and card.rx_slots_most and card.rx_slots < card.rx_slots_most:
        return f"`ethtool -G {name} rx {card.rx_slots_most}` (now {card.rx_slots})"
    return f"`ethtool -S {name}` says more; give its interrupt a core of its own, or use another card"
