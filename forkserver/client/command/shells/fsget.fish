function _fsget_completion
    set -l words (commandline -cp)
    set -l word (commandline -ct)
    for item in (env _FSGET_COMPLETE=fish_complete COMP_WORDS="$words" COMP_CWORD="$word" fsget 2>/dev/null)
        set -l parts (string split -m 1 , -- $item)
        switch $parts[1]
            case dir
                __fish_complete_directories "$word"
            case file
                __fish_complete_path "$word"
            case plain
                printf '%s\n' $parts[2]
        end
    end
end

complete --no-files --command fsget --arguments "(_fsget_completion)"
