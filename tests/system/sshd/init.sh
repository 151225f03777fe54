# The first process of a far machine that a test made: private views of what a machine has once, then sshd on demand.
#
# Arguments: DIR (etc/, config, log; local/ for /usr/local/bin), MODE (`own`: pid 1 of a pid namespace; `shared`: it sees all processes).
# stdin: `start` starts sshd. Its end is the machine's end: as pid 1, all processes go with it.
# stdout: `ready`, then `sshd PID` for each start, PID as it is in here.
set -u
dir=$1 mode=$2

private() {
    # sshd wants /run/sshd; what else lies in /run is of the real machine.
    mount -t tmpfs -o mode=0755 tmpfs /run && mkdir -m 0755 /run/sshd || return
    for file in passwd group shadow hosts; do
        mount --bind "$dir/etc/$file" "/etc/$file" || return
    done
    [ ! -d "$dir/local" ] || mount --bind "$dir/local" /usr/local/bin
}
private || exit 1
echo ready
exec 2>>"$dir/log"

while read -r word; do
    case $word in
        start)
            /usr/sbin/sshd -D -e -f "$dir/config" </dev/null >/dev/null &
            echo "sshd $!" ;;
    esac
done

if [ "$mode" = shared ]; then
    # No namespace ends what is left: it is known by its mark, or by its parents.
    kill -KILL $(jobs -p) 2>/dev/null
    for process in /proc/[0-9]*; do
        [ "$process" != "/proc/$$" ] || continue
        if grep -qzx "FALCONER_TEST_SSHD=$FALCONER_TEST_SSHD" "$process/environ" 2>/dev/null; then
            kill -KILL "${process#/proc/}" 2>/dev/null
        fi
    done
fi
exit 0
