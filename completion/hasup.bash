# Completion of hasupctl and hasupd for bash.  What may stand where comes from the programs
# themselves: hasupctl --complete, hasupd --help.

# The words that are read, as candidates; where a path is wanted, paths.
_hasup_reply() {
    local line current=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
        :files) _hasup_paths -f ;;
        :directories) _hasup_paths -d ;;
        *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done
}

_hasup_paths() {
    local path
    compopt -o filenames 2>/dev/null
    while IFS= read -r path; do
        COMPREPLY+=("$path")
    done < <(compgen "$1" -- "$current")
}

_hasupctl() {
    local program=${COMP_WORDS[0]/#\~/$HOME}
    _hasup_reply < <("$program" --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}

_hasupd() {
    local program=${COMP_WORDS[0]/#\~/$HOME} current=${COMP_WORDS[COMP_CWORD]} words i
    if [[ ${COMP_WORDS[1]} == run && $COMP_CWORD -gt 1 ]]; then
        for ((i = 2; i < COMP_CWORD; i++)); do
            case ${COMP_WORDS[i]} in
            -[rw]) ((++i < COMP_CWORD)) || return ;;
            --) ((++i)); break ;;
            -*) ;;
            *) break ;;
            esac
        done
        if ((i < COMP_CWORD)); then # the command is there
            _hasup_reply <<<:files
            return
        fi
        words=$("$program" run -h 2>/dev/null | sed -nE 's/^ +(-[a-z]).*/\1/p')
        [[ $current == -* ]] || words=$(compgen -c -- "$current")
    else
        case ${COMP_WORDS[COMP_CWORD - 1]} in
        -c | --config | --check)
            _hasup_reply <<<:files
            return
            ;;
        esac
        ((COMP_CWORD == 1)) || return
        words=$("$program" --help 2>/dev/null | grep -oE '(hasupd|\|) [a-z-]+' | sed 's/.* //' | sort -u)
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _hasupctl hasupctl
complete -F _hasupd hasupd
