//! What bash is told. The script of the library puts words as they are: a name with a space would become
//! two, and one with a `$` whatever the shell makes of it.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use clap::Command;
use clap_complete::engine::complete;
use clap_complete::env::EnvCompleter;

use super::words::for_bash;

/// Which word is being completed, counted from the program's name.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";
/// The whole of that word, the quote that it begins with, too: bash hands what is behind it.
const TYPED: &str = "_MCPM_TYPED";

/// bash 4 or later: `mapfile` takes lines as they are.
const SCRIPT: &str = r#"
_mcpm_complete_NAME() {
    local words=("${COMP_WORDS[@]}")
    words[COMP_CWORD]="$2"
    mapfile -t COMPREPLY < <(
        INDEX="$COMP_CWORD" TYPED="${COMP_WORDS[COMP_CWORD]}" VAR="bash" \
            "COMPLETER" -- "${words[@]}" 2>/dev/null
    )
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -o nosort -F _mcpm_complete_NAME BIN 2>/dev/null ||
    complete -o bashdefault -F _mcpm_complete_NAME BIN
"#;

/// In the place of the library's own.
pub(super) struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
    }

    fn write_registration(
        &self,
        var: &str,
        name: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn Write,
    ) -> Result<(), std::io::Error> {
        let script = SCRIPT
            .replace("INDEX", INDEX)
            .replace("TYPED", TYPED)
            .replace("VAR", var)
            .replace("COMPLETER", &for_bash(completer, Some('"')))
            .replace("NAME", name)
            .replace("BIN", bin);
        buf.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        cmd: &mut Command,
        args: Vec<OsString>,
        current_dir: Option<&Path>,
        buf: &mut dyn Write,
    ) -> Result<(), std::io::Error> {
        let variable = |name: &str| std::env::var(name).ok();
        let index = variable(INDEX).and_then(|index| index.parse().ok());
        let typed = variable(TYPED).unwrap_or_default();
        let quote = typed.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let found = complete(cmd, args, index.unwrap_or_default(), current_dir)?;
        for candidate in found {
            let text = candidate.get_value().to_string_lossy();
            // A line is a word.
            if !text.contains('\n') {
                writeln!(buf, "{}", for_bash(&text, quote))?;
            }
        }
        Ok(())
    }
}
