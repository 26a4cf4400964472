# Stands guard over the private folder of one server, in a session of its own.
#
# Usage: sh guard.sh FOLDER, with standard input a pipe whose only writer is the owner of the server. The kernel
# closes that pipe however the owner ends, SIGKILL included, and then the server is ended and its folder removed.
# An owner that has tidied up itself leaves no folder, and so nothing to do.

folder=${1%.gone}
doomed=$folder.gone

trap '' HUP INT TERM
while read -r _; do :; done

# The move comes first: a server that is only just being started finds no folder any more and gives up.
if [ -d "$folder" ]; then
    mv "$folder" "$doomed" || exit 1
fi
[ -d "$doomed" ] || exit 0

pid=
[ -f "$doomed/pid" ] && read -r pid <"$doomed/pid"

# A process id may have been given to someone else since; only a command line that names the folder is ours.
runs() {
    [ -n "$pid" ] || return 1
    if [ -r "/proc/$pid/cmdline" ]; then
        command_line=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)
    else
        command_line=$(ps -ww -o args= -p "$pid" 2>/dev/null)
    fi
    case $command_line in
        *"$folder"/*) return 0 ;;
        *) return 1 ;;
    esac
}

# PostgreSQL: fast shutdown, then immediate. Redis ends at the first. A kept data folder survives each of them.
for signal in INT QUIT KILL; do
    tries=100
    while runs && [ "$tries" -gt 0 ]; do
        [ "$tries" -lt 100 ] || kill -s "$signal" "$pid" 2>/dev/null
        tries=$((tries - 1))
        sleep 0.05
    done
done

# The owner file goes last: by it a sweep knows what is left, should this be interrupted.
rm -rf "$doomed"/*/
rm -rf "$doomed"
