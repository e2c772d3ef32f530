# What tests/demo and tests/damage share: a demo server in a folder of its own, and a count of what
# held. Sourced, with the binary as its argument.

binary=$(realpath "${1:-target/release/palomar}")
[ -x "$binary" ] || { echo "no $binary: cargo build --release"; exit 2; }
for need in curl python3; do
  command -v "$need" >/dev/null || { echo "no $need: apt-get install $need"; exit 2; }
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/palomar-play.XXXXXX")
home=$folder/demo
config=$home/palomar.toml
demo=
passed=0
failed=0
mkfifo "$folder/words"
base=$(PYTHONPATH=tests python3 -B -c 'from stage.servers import free_ports; print(free_ports(9)[0])')
[ -n "$base" ] || exit 2

clean_up() {
  if [ -n "$demo" ]; then
    kill -9 "$demo" 2>/dev/null
    wait "$demo" 2>/dev/null
  fi
  rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

pass() { passed=$((passed + 1)); echo "ok   $*"; }
fail() {
  failed=$((failed + 1))
  echo "FAIL $*"
  sed 's/^/     /' "$folder/out" "$folder/err" 2>/dev/null | tail -n 20
}

# check NAME COMMAND...: the command must end with 0. Its output is kept in $folder/out.
check() {
  local what=$1
  shift
  if "$@" >"$folder/out" 2>"$folder/err"; then pass "$what"; else fail "$what (exit $?)"; fi
}

# told NAME PATTERN: the command before said so.
told() {
  if grep -qE "$2" "$folder/out"; then pass "$1"; else fail "$1 (no $2)"; fi
}

# within SECONDS COMMAND...: until the command succeeds, or the demo ends. In between it listens to
# the demo, which has nothing more to say.
within() {
  local until=$((SECONDS + $1)) said
  shift
  until "$@"; do
    [ $SECONDS -lt $until ] || return 1
    read -r -t 0.1 -u "$words" said
    [ $? -gt 128 ] || return 1
  done
}

# start_demo NAME [OPTION...]: what it prints until it serves is in $home.out.
start_demo() {
  local what=$1 line
  shift
  "$binary" demo --data "$home" --ports "$base" "$@" >"$folder/words" 2>"$home.err" &
  demo=$!
  exec {words}<"$folder/words"
  : >"$home.out"
  while IFS= read -r -t 60 -u "$words" line; do
    printf '%s\n' "$line" >>"$home.out"
    case $line in
      *metrics | '{'*) pass "$what"; return ;;
    esac
  done
  cp "$home.out" "$folder/out"
  cp "$home.err" "$folder/err"
  fail "$what"
  score
  exit 1
}

# stop_demo NAME [SIGNAL]
stop_demo() {
  local code
  kill -s "${2:-INT}" "$demo"
  wait "$demo"
  code=$?
  demo=
  exec {words}<&-
  if [ $code = 0 ]; then pass "$1"; else fail "$1 (exit $code)"; fi
}

# The last line of a play, and its outcome.
score() {
  echo "$passed passed, $failed failed"
  [ $failed = 0 ]
}
