#!/usr/bin/env bash
# Installs what the tests run, unless it is in PATH: redis-server as a child (the program is content with
# valkey-server, the tests of clusters and Sentinels are not), curl for the command lines of the README, and Node.js
# with npm for the agent in examples/node.
# The system's own Redis service is not started. Without Node.js the tests go on and say so, but not with CI=true.
set -euo pipefail

have_redis() { command -v redis-server >/dev/null; }
have_curl() { command -v curl >/dev/null; }
have_node() { command -v node >/dev/null && command -v npm >/dev/null; }

hint() {
	if ! have_redis; then
		echo "The tests need redis-server 7.0 or newer in PATH. $1" >&2
		echo "  Debian, Ubuntu: apt-get install redis-server" >&2
		echo "  macOS: brew install redis                        Alpine: apk add redis" >&2
		echo "  Valkey serves as well: link its valkey-server as redis-server into a folder of PATH." >&2
		exit 1
	fi
	if ! have_curl; then
		echo "The tests need curl in PATH. $1" >&2
		echo "  Debian, Ubuntu: apt-get install curl" >&2
		echo "  Alpine: apk add curl" >&2
		exit 1
	fi
	if ! have_node; then
		echo "The agent in examples/node needs Node.js 18 or newer and npm in PATH; its tests are left out. $1" >&2
		echo "  Debian, Ubuntu: apt-get install nodejs npm" >&2
		echo "  macOS: brew install node                         Alpine: apk add nodejs npm" >&2
		[ "${CI:-}" != true ] || exit 1
	fi
	exit 0
}

missing=()
have_redis || missing+=(redis-server)
have_curl || missing+=(curl)
have_node || missing+=(nodejs npm)
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

command -v apt-get >/dev/null || hint "Install it:"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
	sudo -n true 2>/dev/null || hint "Installing it needs root; run this as root, or install it:"
	as_root=(sudo -n)
fi

# Exit status 101 of policy-rc.d tells the package not to start its service. One that is there already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap '"${as_root[@]}" rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
	"${as_root[@]}" chmod 755 "$policy"
fi

apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
"${apt[@]}" update >&2 || echo "apt-get update failed; trying with the package lists that are there." >&2
for package in "${missing[@]}"; do # One by one: where one cannot be had, the others may.
	echo "Installing $package for the tests." >&2
	"${apt[@]}" install --no-install-recommends "$package" >&2 || true
done
have_redis && have_curl && have_node || hint "apt-get could not install it. Install it:"
