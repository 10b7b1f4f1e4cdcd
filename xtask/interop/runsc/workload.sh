#!/bin/sh
# What programs do with files, for a busybox shell inside a sandbox.
#
#   workload.sh all DIR...           runs every case, those about single directories in each DIR,
#                                    and prints `ok NAME:DIR SECONDS` or `FAIL NAME:DIR WHY`
#   workload.sh case NAME [DIR]      runs one; any command that fails, fails it
#   workload.sh manifest DIR         every file below DIR with attributes and content, sorted
#
# The sandbox has writable directories of two mounts (/own of the root, /rw), a read-only one (/ro),
# single files (/one writable, /only-read not), and the host's programs read-only in /usr.
# Outside of it, only `manifest` is used.

self=$0
everywhere="append rename unlink directories deep links modes owners timestamps sizes sparse names
copies unlinked_open executable fifo two_appenders sync"
once="tree big concurrent locks read_only read_only_file single_file across space host_programs attributes"

fail() {
    echo "$*"
    exit 1
}

# is WHAT EXPECTED FOUND
is() {
    [ "$2" = "$3" ] || fail "$1: expected '$2', found '$3'"
}

# refused WORDS COMMAND...: it must fail, and say so.
refused() {
    words=$1
    shift
    if said=$("$@" 2>&1); then fail "$*: succeeded"; fi
    case $said in
    *"$words"*) ;;
    *) fail "$*: says '$said', not '$words'" ;;
    esac
}

append() {
    echo first >file
    echo second >>file
    is content "first second" "$(echo $(cat file))"
    : >file
    is size 0 "$(stat -c %s file)"
    printf 'without an end' >file
    is content "without an end" "$(cat file)"
}

rename() {
    mkdir a b
    echo one >a/file
    mv a/file b/renamed
    is content one "$(cat b/renamed)"
    [ ! -e a/file ]
    echo two >b/other
    mv -f b/other b/renamed
    is replaced two "$(cat b/renamed)"
    exec 3<b/renamed
    mkdir -p deep/deeper
    mv b deep/deeper/c
    is "after its directory moved" two "$(cat deep/deeper/c/renamed)"
    is "open while it moved" two "$(cat <&3)"
    exec 3<&-
    refused "Invalid argument" mv deep deep/deeper/c
    mkdir full
    echo x >full/x
    rmdir a
    refused "not empty" rmdir full
}

unlink() {
    for name in $(seq 300); do echo $name >file-$name; done
    is names 300 "$(ls | wc -l)"
    rm file-1?? file-2??
    is "names left" 100 "$(ls | wc -l)"
    refused "No such file" cat file-150
    mkdir dir
    refused "s a directory" rm dir
}

directories() {
    mkdir -p a/b/c
    mkdir -m 0750 private
    is mode 750 "$(stat -c %a private)"
    refused "File exists" mkdir a
    touch self
    refused "Not a directory" cat self/nothing/x
    is links 3 "$(stat -c %h a)"
}

deep() {
    for level in $(seq 200); do
        mkdir "level-$level"
        cd "level-$level"
    done
    echo bottom >file
    is "content at the bottom" bottom "$(cat file)"
    cd "$1"
    is depth 201 "$(find . | tail -1 | tr -cd / | wc -c)"
    is found 1 "$(find . -type f | wc -l)"
}

links() {
    echo text >file
    ln file hard
    is links 2 "$(stat -c %h file)"
    is inode "$(stat -c %i file)" "$(stat -c %i hard)"
    echo more >>hard
    is content "text more" "$(echo $(cat file))"
    ln -s file soft
    ln -s ../nowhere/at/all broken
    ln -s loop loop
    is target file "$(readlink soft)"
    is "through the link" "text more" "$(echo $(cat soft))"
    refused "No such file" cat broken
    refused "oo many" cat loop
    mkdir real
    ln -s real way
    echo x >way/file
    is "below a link" x "$(cat real/file)"
    rm file
    is "under the other name" "text more" "$(echo $(cat hard))"
}

modes() {
    (umask 0 && : >all && mkdir all.d)
    is "umask 0" "666 777" "$(echo $(stat -c %a all all.d))"
    (umask 077 && : >mine)
    is "umask 077" 600 "$(stat -c %a mine)"
    for mode in 0 400 751 1777 2755 4711 6777; do
        chmod $mode all
        is chmod $mode "$(stat -c %a all)"
    done
    chmod u=rw,go= all
    is symbolic 600 "$(stat -c %a all)"
    chmod -R a+rX all.d
}

owners() {
    : >file
    ln -s file link
    chown 1000:1001 file
    is owner "1000 1001" "$(stat -c '%u %g' file)"
    chown -h 7:8 link
    is "owner of the link" "7 8" "$(stat -c '%u %g' link)"
    is "owner of its target" "1000 1001" "$(stat -c '%u %g' file)"
    chmod 4755 file
    chown 1002 file
    is "set-user-id after chown" 755 "$(stat -c %a file)"
}

timestamps() {
    touch -d '2001-02-03 04:05:06' file
    is "time set" 981173106 "$(TZ=UTC0 stat -c %Y file)"
    cp -p file copy
    is "time copied" "$(stat -c %y file)" "$(stat -c %y copy)"
    sleep 1
    echo x >>file
    [ file -nt copy ]
}

sizes() {
    printf 0123456789 >file
    truncate -s 4 file
    is shrunk 0123 "$(cat file)"
    truncate -s 100000 file
    is grown 100000 "$(stat -c %s file)"
    is "sum of the zeros" "$( (printf 0123 && head -c 99996 /dev/zero) | sha256sum)" \
        "$(sha256sum <file)"
    printf middle | dd of=file bs=1 seek=50000 conv=notrunc 2>/dev/null
    is middle middle "$(dd if=file bs=1 skip=50000 count=6 2>/dev/null)"
    is "size kept" 100000 "$(stat -c %s file)"
}

sparse() {
    printf end | dd of=file bs=1 seek=1073741824 2>/dev/null
    is size 1073741827 "$(stat -c %s file)"
    is "a hole" "" "$(dd if=file bs=1M skip=512 count=1 2>/dev/null | tr -d '\0')"
    is end end "$(tail -c 3 file)"
}

names() {
    long=$(printf '%0255d' 0)
    echo x >"$long"
    is "255 bytes" x "$(cat "$long")"
    refused "too long" touch "${long}0"
    for name in ' ' '-rf' 'a
b' '*' "$(printf '\377\376')" 'ü日' '\' '...'; do
        echo "$name" >"./$name"
        is "content of $name" "$name" "$(cat "./$name")"
    done
    is names 9 "$(find . -type f -exec echo x \; | wc -l)"
}

# A tree in $1: $2 directories with 52 files each.
plant() {
    for outer in $(seq $2); do
        mkdir -p "$1/$outer/empty"
        for inner in $(seq 50); do
            echo "needle $outer $inner" >"$1/$outer/$inner"
        done
        ln -s 1 "$1/$outer/link"
        ln "$1/$outer/2" "$1/$outer/same"
    done
}

tree() {
    plant t 10
    is files 520 "$(find t ! -type d | wc -l)"
    is directories 21 "$(find t -type d | wc -l)"
    is needles 520 "$(grep -r needle t | wc -l)"
    is "needles of 7" 52 "$(grep -rl 'needle 7 ' t | wc -l)"
    find t -type f -name 3 -exec rm {} +
    is "after find -exec rm" 510 "$(find t ! -type d | wc -l)"
    # gVisor keeps times for each name, so those of hard links can differ as the clocks of the sandbox
    # and of the host do. Set, they are the same.
    find t -type f -exec touch -d '2020-02-02 02:02:02' {} +
    tar cf t.tar t
    mkdir out
    tar xf t.tar -C out
    diff -r t out/t
    (cd t && list . | grep -v ^directory) >before
    (cd out/t && list . | grep -v ^directory) >after
    diff before after
    is "links after tar" 2 "$(stat -c %h out/t/9/same)"
    rm -r t
    [ ! -e t ]
}

copies() {
    plant t 3
    chmod 640 t/1/1
    chown -R 5:6 t/2
    cp -a t copy
    is "cp -a" "$(digest t)" "$(digest copy)"
    diff -r t copy
    echo other >copy/3/30
    refused "other" diff -r t copy
    mv t moved
    is "moved" 153 "$(cat moved/*/[0-9s]* | wc -l)"
}

big() {
    dd if=/dev/urandom of=file bs=1M count=24 2>/dev/null
    cp file copy
    cmp file copy
    sum=$(sha256sum <file)
    is "in small pieces" "$sum" "$(dd if=copy bs=5000 2>/dev/null | sha256sum)"
    for part in $(seq 0 2); do
        dd if=file of=together bs=1M skip=$((part * 8)) seek=$((part * 8)) count=8 conv=notrunc
    done 2>/dev/null
    is "put together" "$sum" "$(sha256sum <together)"
    gzip -1 <file | gunzip | cmp - file
}

unlinked_open() {
    echo before >file
    exec 3<file 4>>file 5>only
    rm file only
    is "read after the name is gone" before "$(cat <&3)"
    echo more >&4
    echo more >&5
    is size 12 "$(stat -L -c %s /proc/self/fd/4)"
    is names "" "$(ls)"
    exec 3<&- 4>&- 5>&-
}

executable() {
    cp /bin/busybox busybox-copy
    is "a program on the mount" hello "$(./busybox-copy echo hello)"
    cat >script <<'END'
#!/bin/sh
echo "$1 from a script"
END
    refused "ermission denied" ./script
    chmod +x script
    is "a script on the mount" "hello from a script" "$(./script hello)"
    cp busybox-copy other
    cmp busybox-copy other
    mv -f other busybox-copy
    is "after it was replaced" hello "$(./busybox-copy echo hello)"
}

fifo() {
    mkfifo pipe
    is type fifo "$(stat -c %F pipe)"
    echo through >pipe &
    is content through "$(cat pipe)"
    wait
}

worker() {
    for round in $(seq 12); do
        echo "$1 $round" >"mine-$1"
        mv "mine-$1" "ours-$round-$1"
        cat "ours-$round-$1" >/dev/null
        ln "ours-$round-$1" "tmp-$1"
        mkdir "dir-$1"
        mv "tmp-$1" "dir-$1/x"
        is "worker $1" "$1 $round" "$(cat "dir-$1/x")"
        rm -r "dir-$1"
    done
}

concurrent() {
    pids=
    for number in 1 2 3 4 5 6 7 8; do
        worker $number &
        pids="$pids $!"
    done
    for pid in $pids; do wait $pid || fail "a worker failed"; done
    is files 96 "$(ls | wc -l)"
    is contents 96 "$(cat ours-* | sort -u | wc -l)"
}

two_appenders() {
    for name in a b; do
        (for line in $(seq 500); do echo "$name $line" >>log; done) &
    done
    wait
    is lines 1000 "$(wc -l <log)"
    is "lines of a in order" "$(seq 500)" "$(sed -n 's/^a //p' log)"
    is "lines of b in order" "$(seq 500)" "$(sed -n 's/^b //p' log)"
}

locks() {
    : >lock
    echo 0 >counter
    for number in 1 2 3 4; do
        (for round in $(seq 10); do
            /usr/bin/flock lock sh -c 'n=$(cat counter); echo $((n + 1)) >counter'
        done) &
    done
    wait
    is counter 40 "$(cat counter)"
}

sync() {
    dd if=/dev/zero of=file bs=4096 count=64 conv=fsync 2>/dev/null
    busybox sync
    /usr/bin/sync file
    /usr/bin/sync -d file
    /usr/bin/sync -f .
    is size 262144 "$(stat -c %s file)"
}

read_only() {
    is content "from the host" "$(cat /ro/file)"
    is entries "dir file link" "$(echo $(ls /ro))"
    is "below a link" inner "$(cat /ro/link/inner)"
    words="Read-only file system"
    refused "$words" touch /ro/new
    refused "$words" touch /ro/file
    refused "$words" rm /ro/file
    refused "$words" mkdir /ro/dir/new
    refused "$words" rmdir /ro/dir
    refused "$words" mv /ro/file /ro/other
    refused "$words" ln /ro/file /ro/hard
    refused "$words" ln -s x /ro/soft
    refused "$words" chmod 777 /ro/file
    refused "$words" chown 1:1 /ro/file
    refused "$words" truncate -s 0 /ro/file
    refused "$words" sh -c 'echo no >>/ro/file'
    refused "$words" sh -c 'echo no 1<>/ro/file'
    refused "$words" mkfifo /ro/pipe
    is "content still" "from the host" "$(cat /ro/file)"
}

read_only_file() {
    is content "cannot be written" "$(cat /only-read)"
    is size 18 "$(stat -c %s /only-read)"
    refused "Read-only file system" sh -c 'echo no >/only-read'
    refused "Read-only file system" chmod 600 /only-read
    refused "busy" rm /only-read
    refused "Not a directory" ls /only-read/x
}

single_file() {
    is content "may be written" "$(cat /one)"
    echo appended >>/one
    is appended "may be written appended" "$(echo $(cat /one))"
    printf 'quite different\n' >/one
    chmod 604 /one
    chown 12:34 /one
    is attributes "604 12 34 16" "$(stat -c '%a %u %g %s' /one)"
    cp /one copy
    cmp /one copy
    refused "busy" mv /one /two
}

across() {
    echo x >/own/traveller
    mv /own/traveller here
    is content x "$(cat here)"
    refused "ross-device" ln here /own/hard
}

space() {
    for place in / /rw /ro /one; do
        df -P "$place" | awk 'NR == 2 && $2 > 0 { found = 1 } END { exit !found }' ||
            fail "df $place: $(df -P "$place")"
        is "names of $place" 255 "$(stat -f -c %l "$place")"
    done
}

# Programs with shared libraries run from pages of files that were mapped.
host_programs() {
    is sort "1 2 10" "$(printf '10\n1\n2\n' | /usr/bin/sort -n | paste -sd ' ')"
    plant t 20
    /usr/bin/cp -a t copy
    is "cp -a" "$(digest t)" "$(digest copy)"
    /usr/bin/tar cf - t | /usr/bin/tar xf - -C copy
    is tar "$(digest t)" "$(digest copy/t)"
    is needles 1020 "$(/usr/bin/grep -r needle t | /usr/bin/wc -l)"
    truncate -s 8M hole
    /usr/bin/cp --sparse=always hole copy/hole
    cmp hole copy/hole
    /usr/bin/install -m 0711 -o 3 -g 4 /usr/bin/true true
    is install "711 3 4" "$(stat -c '%a %u %g' true)"
    ./true
    refused "Read-only file system" touch /usr/bin/true
}

attributes() {
    touch file
    /usr/bin/setfattr -n user.name -v value file
    is value value "$(/usr/bin/getfattr --only-values -n user.name file)"
    /usr/bin/setfattr -n user.empty file
    is list "user.empty user.name" "$(echo $(/usr/bin/getfattr -d file | sed -n 's/^\(user[^=]*\).*/\1/p'))"
    /usr/bin/setfattr -x user.name file
    refused "No such attribute" /usr/bin/getfattr -n user.name file
    refused "No such attribute" /usr/bin/setfattr -x user.name file
    refused "Read-only file system" /usr/bin/setfattr -n user.x -v y /ro/file
}

# Name, type, mode, owner, size and time of each file below $1; type, mode, owner and name of each
# directory and link. Sizes of directories are the file system's own affair, and their times the
# sandbox's where it has the tree for itself; links have no time that busybox would keep; gVisor
# caches link counts, and keeps FIFOs to itself.
list() {
    find "$1" -type f -exec stat -c '%N %F %a %u %g %s %Y' {} + | sort
    find "$1" -type d -exec stat -c '%F %a %u %g %N' {} + | sort
    find "$1" -type l -exec stat -c '%F %a %u %g %s %N' {} + | sort
}

digest() {
    (cd "$1" && list . | sha256sum)
}

manifest() {
    cd "$1"
    list .
    # The one larger file is a hole of a gigabyte.
    find . -type f -size -1000000 -exec sha256sum {} + | sort -k 2
}

# run NAME DIR
run() {
    mkdir -p "$2"
    start=$(date +%s)
    if said=$(sh -eu "$self" case "$1" "$2" 2>&1); then
        echo "ok $1:$2 $(($(date +%s) - start))"
    else
        echo "FAIL $1:$2" $(echo "$said" | head -c 500)
    fi
}

case $1 in
case)
    cd "$3"
    "$2" "$3"
    ;;
manifest) manifest "$2" ;;
all)
    shift
    for dir; do
        for name in $everywhere; do run $name "$dir/$name"; done
    done
    for name in $once; do run $name "/rw/$name"; done
    for dir in own rw; do (manifest /$dir) >/manifest-$dir; done
    echo end
    ;;
esac
