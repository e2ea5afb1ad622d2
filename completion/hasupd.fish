# Completion of hasupd for fish: what hasupd --help says.

function __hasupd_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    if test (count $words) -gt 1; and test $words[2] = run
        if string match -q -- '-*' "$current"
            $words[1] run -h 2>/dev/null | string replace -rf '^ +(-[a-z])( [A-Z:]+)? +(.*)' '$1\t$3'
        else
            __fish_complete_subcommand --fcs-skip=2
        end
    else if contains -- $words[-1] -c --config --check
        __fish_complete_path "$current"
    else if test (count $words) -eq 1
        $words[1] --help 2>/dev/null | string match -rag '(?:hasupd|\|) ([a-z-]+)' | sort -u
    end
end

complete -c hasupd -f -a '(__hasupd_complete)'
