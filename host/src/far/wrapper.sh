# The wrapper at the far end: starts a command in a session of its own, watches the link, ends what belongs to the run, and
# tells what is left. Described in docs/far-end.md. It is passed as an argument, without these comments and without the blanks
# at the beginning of a line, and evaluated by a POSIX shell:
#
#   sh -c 'eval "$1"' falconer THIS MODE RUN …
#
# Its processes carry FALCONER_WRAPPER=RUN in their environment (RUN-job: the one that holds a detached command; RUN-end: mode
# `end`); those of the run carry FALCONER_FAR_RUN=RUN. Modes: run, detach, attach, end; and job, which only mode detach starts.
#
# File descriptors: 3 what the other side says, 6 and 7 its outputs; 5 the command's input; 8, 9 and 4 a file without a name in
# which the command's process leaves its id (one reader each for the guard and for the wrapper). A follower reads the outputs
# from 4 and 5. The wrapper's own outputs go nowhere: shells say things like "Terminated".

# An exported variable would stay exported with our value: nobody may see the nonce.
unset self mode run sh sid proc own looked x n t z nonce link job c born holder script over told tick
unset helpers jobs members sessions groups known closure ifs ended phase left killed code guard base old try
self=$1 mode=$2 run=$3
shift 3
exec 3<&0 6>&1 7>&2 </dev/null >/dev/null 2>&1
sh=$(command -v sh) sid=$(command -v setsid) && sid=setsid
sessions=' ' known=' ' looked=group ifs=$IFS

say() { echo "$nonce $*" >&7; }
fail() { say fail "$@"; exit 1; }

# Is there a /proc, and is it that of our own process ids? Then our session is known too.
fields() { set -- ${x##*) }; own=$4; born=${20}; }
if read -r x </proc/self/stat && [ "${x%% *}" = $$ ]; then
	proc=1
	fields
fi
born=

# What belongs to the run: $members, and their process groups in $groups. Sessions and members that were found once stay known.
look() {
	members=' ' groups=
	if [ "$proc" ] && look_through; then
		looked=proc
	else
		looked=group
		[ -z "$c" ] || ! kill -0 "-$c" || members=" -$c "
	fi
}

# Who carries our marks, as a whole entry; then who is in which session, and whose child. That the look finds a
# process of the wrapper in both is the proof that it sees anything. A name may have line ends in it, of which it has room for 15;
# what cannot be read makes the look fail. The empty line ends what some tools leave open.
look_through() {
	helpers=' ' jobs=
	x=$(
		LC_ALL=C; export LC_ALL
		{
			echo "k $known"
			echo "s $sessions"
			head -n 99999999 /dev/null /proc/[0-9]*/environ | tr '\n\000' ' \n' | sed -n \
				-e '/==> .proc.[0-9]*.environ <== /{h;s/.* <== //;x;s/.*==> .proc.\([0-9]*\).environ <== .*/\1/;x;}' \
				-e "/^FALCONER_FAR_RUN=$run\$/{g;s/^/r /p;}" -e "/^FALCONER_WRAPPER=$run\$/{g;s/^/w /p;}" \
				-e "/^FALCONER_WRAPPER=$run-job\$/{g;s/^/j /p;}" -e "/^FALCONER_WRAPPER=$run-end\$/{g;s/^/e /p;}"
			echo
			cat /proc/[0-9]*/stat | sed -n -e :a \
				-e 's/^\([0-9]*\) (.*) \(.\) \([-0-9]*\) \([-0-9]*\) \([-0-9]*\) \([-0-9]* \)\{13\}\([0-9]*\) [-0-9]* \([0-9]*\) .*/p \1 \3 \4 \5 \2\7 \8/p' \
				-e t -e '/\(\n.*\)\{16\}/{s/.*/x/p;d;}' -e N -e ba
		} | awk -v me=$$ -v own="$own" -v c="$c" -v born="$born" -v mode="$mode" "$closure"
	) && [ "$x" ] || return
	IFS='|'
	set -- $x
	IFS=$ifs
	members=$1 groups=$2 sessions=$3 helpers=$4 jobs=$5
	[ -z "$6" ] || c= born=
	known=$members
}

# An id that was written down long ago may be another process' by now. Of a process whose first thread has ended, others may
# live. The wrapper's own carry no mark of the run, are in no session of its command and below none of its processes.
closure='
	$1 == "k" || $1 == "r" { for (i = 2; i <= NF; i++) marked[$i] = 1 }
	$1 == "s" { for (i = 2; i <= NF; i++) session[$i] = 1 }
	$1 == "j" { jobs = 1 }
	$1 ~ /^[wje]$/ { ours[$2] = 1; if ($1 != "e" || mode != "end") { helper[$2] = 1; h = h " " $2 } }
	$1 == "x" { unread = 1 }
	$1 == "p" { pid[++n] = $2; up[$2] = $3; group[$2] = $4; in_[$2] = $5; state[$2] = $6; start[$2] = $7 }
	END {
		for (p in ours) if (p in up) seen = 1
		if (!seen || unread) exit 1
		if (born ~ /^[0-9]/ && (c in start) && start[c] != born) { c = ""; other = 1 }
		if (c != "") marked[c] = session[c] = 1
		do {
			more = 0
			for (i = 1; i <= n; i++) {
				p = pid[i]
				if ((p in member) || state[p] ~ /^[ZX][01]$/ || p == me || p + 0 < 2) continue
				if (!(p in marked) && !(up[p] in member) && !(in_[p] in session) && !(mode == "end" && (up[p] in helper))) continue
				if ((p in helper) && !(p in marked) && in_[p] != c && !(up[p] in member)) continue
				member[p] = more = 1
				m = m " " p
				if (in_[p] == own || in_[p] + 0 < 2) continue
				session[in_[p]] = 1
				if (group[p] + 0 > 1 && !(group[p] in grouped)) g = g " -" group[p]
				grouped[group[p]] = 1
			}
		} while (more)
		for (p in session) s = s " " p
		print m " |" g "|" s " |" h " |" jobs "|" other
	}'

# A tenth of a second, if this sleep knows parts of one; later a whole one. $t counts tenths.
nap() { if [ $t -lt 30 ] && sleep .1; then t=$((t + 1)); else sleep 1; t=$((t + 10)); fi; }

# Ends what belongs to the run: TERM, so many seconds, KILL, until two looks have found nothing or 5 s are over. A stopped process
# hears TERM when it goes on. Groups first: a group is hit at once, however fast it forks; the command's own, where it is certain
# that it is, even before the look, for which there may be no process left. $left: who is there still; $killed: how many were ended.
sweep() {
	ended=' ' t=0 z=0 phase=TERM
	while :; do
		if [ $phase = TERM ] && [ $t -ge $(($1 * 10)) ]; then
			phase=KILL t=0
			[ "$born" ] || [ -z "$c" ] || kill -KILL "-$c"
		fi
		look
		[ "$mode" != end ] || [ "$helpers" = ' ' ] || kill -KILL $helpers
		n=
		for x in $members; do case $ended in *" $x "*) ;; *) ended="$ended$x " n="$n $x" ;; esac; done
		if [ "$members" = ' ' ]; then
			z=$((z + 1))
			[ $z -lt 2 ] || break
			continue
		fi
		z=0
		if [ $phase = KILL ]; then
			[ $t -lt 50 ] || break
			kill -KILL $groups $members
		elif [ "$n" ]; then
			kill -TERM $n
			kill -CONT $n
		fi
		nap
	done
	set -- $members
	left=$#
	set -- $ended
	killed=$(($# - left))
}

# The id of the command's process, once it is there.
know() {
	case $mode in
	run) [ "$c" ] || read -r c <&9 ;;
	*) [ "$c" ] || read -r c born holder <"$job/pid" ;;
	esac
}
alive() { if [ "$proc" ]; then read -r x <"/proc/$$/stat" && case ${x##*) } in Z*) false ;; esac; else kill -0 $$; fi; }
# The holder of a detached command is there: less than a look through everything.
held() { case $(tr '\000' '\n' <"/proc/$holder/environ") in *"FALCONER_WRAPPER=$run-job"*) ;; *) false ;; esac; }
lives() {
	know
	look
	[ "$members" != ' ' ] || { if [ $looked = proc ]; then [ "$jobs" ]; else [ "$holder" ] && kill -0 "$holder"; fi; }
}

# Nobody is there any more. An attached command ends, also when it only begins now; else the follower ends.
lost() {
	if [ "$mode" != run ]; then
		kill -TERM $$
		return
	fi
	x=1
	while [ "$x" ]; do
		alive && script=1 || script=
		know
		sweep 2
		x=$script t=0
		nap
	done
}

# Reads what the other side says, and begins a new dead man's sleep with each line. The wrapper ends it with TERM, and it ends the
# sleeper with USR2: whoever forks has no trap for the signal that ends the fork, for a shell that was just forked still has its
# parent's traps, and loses what comes in that moment. (mksh reads on when it hears USR1.) What a sleeper that was woken too late
# has begun is gone on with.
watch() {
	trap 'trap "" TERM; kill -USR2 $old $!; wait $old $!; exit' TERM
	trap : PIPE
	old=
	while :; do
		(
			exec 6>&- 7>&-
			trap 'kill -KILL $!; exit 0' USR2
			sleep "$link" </dev/null &
			wait $!
			trap 'exit 9' USR2
			lost
			exit 9
		) </dev/null &
		[ -z "$old" ] || wake $old
		old=
		read -r x <&3 || break
		old=$!
		script=$x
		know
		alive || break
		case $script in
		T)
			# Before it has become the command, it is a shell, which may forget what it heard.
			t=0
			look
			while case $helpers in *" $c "*) [ $t -lt 20 ] ;; *) false ;; esac; do nap; look; done
			if [ "$members" != ' ' ]; then
				kill -TERM $members
				kill -CONT $members
			fi
			;;
		K) sweep 0 ;;
		F)
			if [ $mode != run ] && { [ -f "$job/status" ] || ! lives; }; then
				forget
				say gone
				wake $!
				exit
			fi
			;;
		esac
	done
	wake $!
	lost
}
wake() {
	kill -USR2 $1
	wait $1
	[ $? != 9 ] || {
		kill -USR2 $!
		lost
		exit
	}
}

# Until the guard is gone. It is told again and again: a shell that is on its way into a read hears nothing before something comes.
dismiss() {
	t=0
	while kill -TERM $guard; do
		t=$((t + 1))
		if [ $t -lt 30 ]; then sleep 0; else sleep .1 || sleep 1; fi
	done
}

# Becomes the command. It tells its id before anything of the command can be heard.
launch() {
	c=$("$sh" -c 'echo $PPID')
	if [ "$mode" = job ]; then
		read -r x <"/proc/$c/stat" && fields
		echo "$c ${born:-0} $$" >"$job/pid.new"
		mv "$job/pid.new" "$job/pid"
	else
		echo "$c" >&8
		say begin "$c"
	fi
	unset FALCONER_WRAPPER
	FALCONER_FAR_RUN=$run
	export FALCONER_FAR_RUN
	script=$1
	shift
	exec <&5 >&6 2>&7 3<&- 4<&- 5<&- 6>&- 7>&- 8>&- 9<&-
	exec $sid env "$@" "$sh" -c "$script"
}

# In the foreground: a shell makes what it starts in the background deaf to INT and QUIT.
execute() {
	[ "$sid" ] || set -m
	(launch "$@")
	code=$?
	set +m
}

# A new file that only we can read, in $x.
temporary() {
	x=$(mktemp) || { x=${TMPDIR:-/tmp}/.falconer-$run-$$-$1; (umask 077; set -C; : >"$x"); } ||
		fail storage 'no temporary file can be made in $TMPDIR or /tmp'
}

# The command's input: so many bytes, all of them before it starts.
spool() {
	exec 5</dev/null
	[ "$1" != 0 ] || return 0
	temporary in
	exec 8>"$x" 5<"$x" 4<"$x"
	rm -f "$x"
	head -c "$1" <&3 >&8 || fail storage 'the input does not fit into the temporary directory'
	[ "$(wc -c <&4)" -eq "$1" ] || fail input 'the input ended before it was complete'
	exec 8>&- 4<&-
}

enter() {
	[ "$1" ] || return 0
	cd "$1" && return
	[ -e "$1" ] || fail cwd 'there is no such directory'
	[ -d "$1" ] || fail cwd 'it is not a directory'
	fail cwd 'it may not be entered'
}

# Where detached commands keep what they said. $job is this run's place, if there is one.
bases() { set -- "$HOME/.falconer" "${TMPDIR:-/tmp}/falconer-$(id -u)"; for base; do "$try" && return; done; return 1; }
find_job() { try=is_here; bases; }
is_here() { job=$base/$run; [ -d "$job" ] && [ -O "$job" ] && [ ! -h "$job" ]; }
make_job() { try=is_made; bases; }
is_made() {
	job=$base/$run
	case $base in /*) ;; *) return 1 ;; esac
	mkdir -m 700 "$base" || { [ -d "$base" ] && [ -O "$base" ]; } || return 1
	mkdir -m 700 "$job" && : >"$job/out" && : >"$job/err"
}
forget() { rm -rf "$job"; rmdir "${job%/*}"; }

# In the background, so that a signal does not wait for it.
pump() { dd bs=65536 count=512 <&$1 >&$2 & wait $!; }

# Says what a detached command said, from these bytes on, until it has ended and all is said.
follow() {
	exec 4<"$job/out" 5<"$job/err"
	[ "$1" = 0 ] || dd bs=1 skip="$1" count=0 <&4
	[ "$2" = 0 ] || dd bs=1 skip="$2" count=0 <&5
	watch </dev/null &
	guard=$!
	trap 'dismiss; kill -KILL $!; exit' TERM HUP
	tick=0
	while :; do
		[ ! -f "$job/status" ] || over=1
		[ "$told" ] || if [ -f "$job/pid" ] || [ "$over" ]; then
			know
			say begin "${c:-0}"
			told=1
		fi
		[ -z "$told" ] || { pump 4 6 && pump 5 7; } || kill -TERM $$
		[ -z "$over" ] || break
		tick=$((tick + 1))
		if [ $((tick % 10)) = 0 ] && ! held && ! lives && [ ! -f "$job/status" ]; then
			[ -z "$told" ] || { pump 4 6; pump 5 7; }
			break
		fi
		{ sleep .2 || sleep 1; } &
		wait $!
	done
	if [ "$over" ]; then
		read -r x <"$job/status"
		say end exited "$x $(($(wc -c <"$job/out"))) $(($(wc -c <"$job/err")))"
	else
		say fail vanished 'it ended without a status: its holder was killed, or the machine was started anew'
	fi
	wait $guard
}

trap : PIPE
if [ "$mode" != job ]; then
	IFS= read -r nonce <&3 || exit 1
	case $nonce in *[!0-9a-f]*) exit 1 ;; esac
	[ ${#nonce} = 32 ] || exit 1
	echo "$nonce" >&6
fi
case $mode in
run)
	[ "$sid" ] || [ "$proc" ] || (set -m; case $- in *m*) ;; *) false ;; esac) ||
		fail shell 'there is no setsid, no /proc, and a shell without job control'
	link=$1
	enter "$3"
	spool "$2"
	shift 3
	temporary id
	exec 8>"$x" 9<"$x" 4<"$x"
	rm -f "$x"
	watch </dev/null &
	guard=$!
	execute "$@"
	read -r c <&4
	sweep 1
	dismiss
	say end exited "$code $left $killed $looked"
	;;
detach)
	link=$1
	enter "$3"
	! find_job || fail exists 'this run has a detached command already'
	spool "$2"
	shift 3
	make_job || fail storage 'no directory can be made in $HOME or $TMPDIR'
	# The first setsid makes a group leader of the second, which therefore goes into the background, and is not deaf for it.
	set -- "$sh" -c 'eval "$1"' falconer "$self" job "$run" "$job" "$@"
	FALCONER_WRAPPER=$run-job
	export FALCONER_WRAPPER
	if [ "$sid" ]; then setsid setsid "$@" <&5 3<&- 5<&- 6>&- 7>&-; else "$@" <&5 3<&- 5<&- 6>&- 7>&- & fi
	FALCONER_WRAPPER=$run
	cd /
	follow 0 0
	;;
job)
	# Only KILL ends the holder before the command has ended.
	trap : HUP INT TERM
	job=$1
	shift
	exec 5<&3 3<&- 6>>"$job/out" 7>>"$job/err"
	execute "$@"
	know
	born=
	sweep 1
	# A full disk may have room later.
	until echo "$code $left $killed $looked" >"$job/status.new" && mv "$job/status.new" "$job/status"; do
		[ -d "$job" ] || break
		sleep 5
	done
	;;
attach)
	link=$1
	find_job || fail absent 'nothing of this run is kept here'
	follow "$2" "$3"
	;;
end)
	say begin $$
	! find_job || [ -f "$job/status" ] || know
	# Also a login that has not come to its wrapper yet.
	x=$(
		LC_ALL=C; export LC_ALL
		head -n 99999999 /dev/null /proc/[0-9]*/cmdline | tr '\n\000' ' \n' | sed -n \
			-e '/==> .proc.[0-9]*.cmdline <== /{h;x;s/.*==> .proc.\([0-9]*\).cmdline <== .*/\1/;x;}' \
			-e "/^-c\$/{n;/^exec .env. .FALCONER_WRAPPER=$run. /{g;p;};}"
	)
	[ -z "$x" ] || kill -KILL $x
	sweep "$1"
	[ "$left" != 0 ] || { find_job && forget; }
	say end ended "- $left $killed $looked"
	;;
esac
exit 0
