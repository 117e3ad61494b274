#compdef fsget

_fsget_completion() {
    local -a answer names directories options
    local type value help
    answer=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \
_FSGET_COMPLETE=zsh_complete "${words[1]}" 2>/dev/null)}")
    for type value help in "${answer[@]}"; do
        case $type in
            dir) _files -/ ;;
            file) _files ;;
            plain)
                if [[ $help != _ ]]; then
                    options+=("$value:$help")
                elif [[ $value == */ ]]; then
                    directories+=("$value")
                else
                    names+=("$value")
                fi ;;
        esac
    done
    (( $#options )) && _describe option options
    (( $#directories )) && compadd -S '' -a directories
    (( $#names )) && compadd -a names
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _fsget_completion "$@"
else
    compdef _fsget_completion fsget
fi
