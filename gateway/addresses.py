"""Which IP addresses belong to the public internet, and which to this machine. Knows nothing of names or URLs."""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

# IANA's special-purpose registry, and what clouds answer their own machines on.
_CLOSED_V4: Final = [
    IPv4Network(one)
    for one in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's own service address, though in a public range
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_OPEN_V6: Final = IPv6Network("2000::/3")  # All else is not global unicast: mapped, NAT64, local, multicast, ...
_CLOSED_V6: Final = [
    IPv6Network(one)
    for one in (
        "2001::/23",  # Teredo (which embeds IPv4), benchmarking, ORCHID, ...
        "2001:db8::/32",
        "2002::/16",  # 6to4, which embeds IPv4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
]
_ISATAP: Final = (0x00005EFE, 0x02005EFE)  # second-last 32 bits of an address whose last 32 are IPv4


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether `address` is one that the internet routes, with no other address hidden in it."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    if address not in _OPEN_V6 or address.scope_id is not None:
        return False
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return not any(address in network for network in _CLOSED_V6)


def is_own(address: IPv4Address | IPv6Address) -> bool:
    """Whether `address` is one of this machine's own interfaces', public or not: as they are now, not at the start.

    The system sends to an own address from that same address. A UDP socket learns it without sending anything.
    """
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((str(address), 9))
            return str(asking.getsockname()[0]) == str(address)
    except OSError:  # there is no way to it
        return False
