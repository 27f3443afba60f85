//! Makes the table of the page's files from their folder, so that adding a file to the page is all there is to do: another
//! language is one more `text-XX.js`. The list of languages is a module of its own, `languages.js`, which exists only here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let variable = |name| env::var(name).map_err(io::Error::other);
    let folder = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("page");
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
    let names: BTreeSet<String> = entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let mut table = String::from("&[\n");
    for name in names.iter().filter(|name| !name.starts_with('.')) {
        let path = folder.join(name);
        let _ = writeln!(table, "File {{ name: {name:?}, bytes: include_bytes!({path:?}) }},");
    }
    let languages: Vec<&str> =
        names.iter().filter_map(|name| name.strip_prefix("text-")?.strip_suffix(".js")).collect();
    let module = format!("export default {languages:?};\n");
    let _ = writeln!(table, "File {{ name: \"languages.js\", bytes: {module:?}.as_bytes() }},\n]");
    fs::write(Path::new(&variable("OUT_DIR")?).join("files.rs"), table)
}
