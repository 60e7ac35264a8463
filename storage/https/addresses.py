"""Which addresses may be asked: https, of hosts whose every IP address lies in public networks.

A list of addresses comes from anywhere, and what it names is fetched by a machine that may reach
what its writer may not: the network behind the firewall, the services of the machine itself, the
credentials that a cloud hands out at an address of its own.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from storage.errors import NotFoundError, TerminalStorageError

SCHEME = "https://"

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# The IP addresses of a name, as texts; raises OSError.
Resolve = Callable[[str, int], Sequence[str]]

# What an address may hold: the characters of RFC 3986, and none that hides another.
_PLAIN = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Parameters by which clouds sign an address for a while: a secret, which the store may not hold.
_SIGNATURES = frozenset(
    {"x-amz-signature", "x-amz-security-token", "x-goog-signature", "signature", "sig", "token"}
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")
_EXAMPLES = ipaddress.IPv6Network("3fff::/20")
_NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # "this host", which some systems take for loopback
            "192.88.99.0/24",  # relays to elsewhere
            "100.100.100.200/32",  # metadata of clouds, beside the link-local ones
            "168.63.129.16/32",
            "192.0.0.192/32",
            "fd00:ec2::254/128",
        ),
    )
)


class RefusedAddressError(TerminalStorageError):
    """An address that is not asked at all."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """An https address in its parts; `target` is what the host is asked for."""

    text: str
    host: str
    port: int
    target: str


def parse(text: str) -> Address:
    """The parts of an address; raises RefusedAddressError for what is no plain https address."""
    if not _PLAIN.fullmatch(text):
        raise _refused(text, "must be of ASCII characters without spaces; percent-encode others")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _refused(text, f"{error}; correct it") from error
    if parts.scheme != "https":
        raise _refused(text, f"must begin with {SCHEME}")
    if "@" in parts.netloc:
        # Not shown: there may be a password before the host.
        raise RefusedAddressError(
            f"{SCHEME}...@{parts.netloc.rpartition('@')[2]}: must have no user name or password"
        )
    host = parts.hostname or ""
    if port == 0 or not _is_host(host):
        raise _refused(text, "must name a host, such as images.example or 203.0.113.7")
    if "#" in text or ".." in parts.path.split("/"):
        raise _refused(text, "must have no # and no part ..; write it as the host knows it")
    _check_unsigned(text, parts.query)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(text=text, host=host, port=port or 443, target=target)


def _is_host(host: str) -> bool:
    """A name, or an IP address as it is usually written: 127.1 and 0x7f000001 are neither."""
    if ":" in host:
        return "%" not in host and _ip(host) is not None
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ip(host) is not None
    return len(host) <= 253 and all(map(_LABEL.fullmatch, labels))


def _ip(text: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _check_unsigned(text: str, query: str) -> None:
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name.lower() in _SIGNATURES:
            raise RefusedAddressError(
                f"{text.partition('?')[0]}: has {name} in its query, a secret that ends with time; "
                "list an address without, or put the images in S3"
            )


def _refused(text: str, why: str) -> RefusedAddressError:
    return RefusedAddressError(f"{text!a}: {why}")


def system_resolve(host: str, port: int) -> Sequence[str]:
    """The IP addresses of a name as this machine knows them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def allowed_ips(address: Address, resolve: Resolve, *, private: bool) -> Sequence[str]:
    """The IP addresses of the host, all of which may be asked; to be connected to as they are.

    A name is looked up here, once: looked up again, it could be another's. `private` allows those
    of private networks and loopback, never a cloud's metadata. Raises RefusedAddressError when one
    may not be asked, NotFoundError for a name that nobody has, OSError when that cannot be told.
    """
    try:
        ips = resolve(address.host, address.port)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise
        raise NotFoundError(
            f"{address.text}: no IP address of {address.host} is known; correct the name"
        ) from error
    for ip in ips:
        if (why := why_refused(ip, private=private)) is not None:
            raise RefusedAddressError(
                f"{address.text}: {address.host} is {ip}, {why}; nothing was asked of it"
            )
    return ips


def why_refused(ip: str, *, private: bool) -> str | None:
    """What kind of address this is, if one that may not be asked."""
    found = _ip(ip.partition("%")[0])
    if found is None:
        return "which is no IP address"
    found = _within(found)
    if found.is_link_local or any(found in network for network in _NEVER):
        return "an address of the machine's surroundings"
    if found.is_multicast or found.is_unspecified or (found.is_reserved and found.version == 4):
        return "an address that is no single host's"
    if not _is_public(found) and not (private and found.is_private):
        return "an address of a private network"
    return None


def _is_public(ip: IpAddress) -> bool:
    # Of IPv6 only what is given to hosts: the rest is kept for other uses or for later.
    return ip.is_global and (ip.version == 4 or (ip in _UNICAST and ip not in _EXAMPLES))


def _within(ip: IpAddress) -> IpAddress:
    """The IPv4 address inside an IPv6 one, if there is one: that is where its packets end."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    inner = ip.ipv4_mapped or ip.sixtofour
    if inner is None and ip in _NAT64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return inner or ip
