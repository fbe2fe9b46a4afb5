"""By which addresses other hosts can reach this one."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["own_addresses"]

CHOSEN = "OMPI_MCA_btl_tcp_if_include"
"""Names the networks that ranks may use, where the user has told Open MPI."""

_SIOCGIFADDR = 0x8915
_IPV6 = Path("/proc/net/if_inet6")
_GLOBAL = "00"


def own_addresses(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The addresses of this host, those of IPv4 first, without those that other hosts have, too.

    Where the user has told Open MPI which networks to take, by their interfaces or as 192.0.2.0/24, only those.
    """
    found = [pair for pair in (*_of_ipv4(), *_of_ipv6()) if not ipaddress.ip_address(pair[1]).is_loopback]
    chosen = [word for word in environment.get(CHOSEN, "").split(",") if word]
    return [address for name, address in found if not chosen or any(_is_of(word, name, address) for word in chosen)]


def _of_ipv4() -> Iterator[tuple[str, str]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                answer = fcntl.ioctl(asked, _SIOCGIFADDR, struct.pack("256s", os.fsencode(name)))
                yield name, socket.inet_ntoa(answer[20:24])


def _of_ipv6() -> Iterator[tuple[str, str]]:
    with suppress(OSError):
        for line in _IPV6.read_text().splitlines():
            digits, _, _, scope, _, name = line.split()
            if scope == _GLOBAL:
                yield name, socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))


def _is_of(network: str, name: str, address: str) -> bool:
    """Whether an address is of a network, which is named by its interface or its addresses."""
    if "/" not in network:
        return network == name
    with suppress(ValueError):
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    return False
