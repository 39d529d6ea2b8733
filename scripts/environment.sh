# Sourced by the scripts beside it: makes .venv hold this project with some of its extras.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
bin=$root/.venv/bin

find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "max-whisper needs Python 3.10 to 3.14 with its venv module; none was found." >&2
    return 1
}

# prepare_environment EXTRA[,EXTRA...]: quick where nothing has changed since the last time.
prepare_environment() {
    stamp=$root/.venv/.installed-$1
    wanted=$(cksum <"$root/pyproject.toml")
    if [ -x "$bin/max-whisper" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    echo "Setting up $root/.venv; this happens once and takes a few minutes." >&2
    if [ ! -x "$bin/python" ] || ! "$bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python)
        if ! "$python" -m venv --clear "$root/.venv" >&2; then
            echo "Python's venv module does not work here; on Debian: apt install python3-venv" >&2
            return 1
        fi
    fi
    "$bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root[$1]" >&2
    echo "$wanted" >"$stamp"
}
