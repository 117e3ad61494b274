_fsget_completion() {
    local item answer
    mapfile -t answer < <(
        env _FSGET_COMPLETE=bash_complete COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_CWORD="$2" "$1" 2>/dev/null
    )
    COMPREPLY=()
    for item in "${answer[@]}"; do
        case $item in
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
            plain,*) COMPREPLY+=("${item#*,}") ;;
        esac
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]]; then
        compopt -o nospace
    fi
}

complete -F _fsget_completion fsget
