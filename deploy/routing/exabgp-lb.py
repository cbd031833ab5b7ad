#!/usr/bin/python3
"""exabgp-lb.py DEVICE: has ExaBGP announce the addresses of DEVICE that stand alone (/32, /128).

The device is lb's (`kind: anycast`): its addresses are the VIPs that this director serves. The kernel
tells by netlink when addresses or links change, and then all of them are looked at anew; so nothing
depends on having seen each change. They are looked at once a second besides.
"""

import json
import select
import socket
import subprocess
import sys

# linux/rtnetlink.h: links, addresses of IPv4 and of IPv6.
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
LOOK_EVERY = 1.0


def addresses(device):
    """Those that the device has. None of a device that is not there, or if nobody can tell."""
    command = ["ip", "-json", "address", "show", "up"]
    try:
        told = subprocess.run(command, stdout=subprocess.PIPE, timeout=5, check=True).stdout
        links = json.loads(told or "[]")
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        print(f"exabgp-lb: {' '.join(command)}: {error}", file=sys.stderr, flush=True)
        return set()
    found = set()
    for link in links:
        # `ip` shows links that are not asked for as empty objects.
        if link.get("ifname") != device:
            continue
        for address in link.get("addr_info", []):
            whole = {"inet": 32, "inet6": 128}.get(address.get("family"))
            if address.get("prefixlen") == whole and "local" in address:
                found.add(f"{address['local']}/{whole}")
    return found


def say(verb, route):
    print(f"{verb} route {route} next-hop self", flush=True)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    device = sys.argv[1]
    changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    changes.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
    changes.setblocking(False)
    announced = set()
    while True:
        found = addresses(device)
        for route in sorted(announced - found):
            say("withdraw", route)
        for route in sorted(found - announced):
            say("announce", route)
        announced = found
        ready, _, _ = select.select([changes, sys.stdin], [], [], LOOK_EVERY)
        if sys.stdin in ready and not sys.stdin.buffer.raw.read(65536):
            return  # ExaBGP has ended; else it said "done", which must be read, or it waits
        if changes in ready:
            try:
                while changes.recv(65536):
                    pass
            except OSError:
                pass  # that is all, or more than there was room for: all of them are looked at anyway


if __name__ == "__main__":
    main()
