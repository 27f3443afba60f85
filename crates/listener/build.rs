//! Generates the table of the page's files from `page/` and its folders, so that a new file needs no other change. The page's list of
//! languages, `text/languages.js`, is generated from the names of the files `text/text-XX.js`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let variable = |name| env::var(name).map_err(io::Error::other);
    let folder = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("page");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = BTreeMap::new();
    collect(&folder, "", &mut files)?;
    let languages: Vec<&str> =
        files.keys().filter_map(|name| name.strip_prefix("text/text-")?.strip_suffix(".js")).collect();
    let module = format!("export default {languages:?};\n");
    let mut table = String::from("&[\n");
    for (name, path) in &files {
        let _ = writeln!(table, "File {{ name: {name:?}, bytes: include_bytes!({path:?}) }},");
    }
    let _ = writeln!(table, "File {{ name: \"text/languages.js\", bytes: {module:?}.as_bytes() }},\n]");
    fs::write(Path::new(&variable("OUT_DIR")?).join("files.rs"), table)
}

/// Adds the files of `folder` and its folders, with names that begin with `prefix` and use `/` between folders.
fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let name = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}
