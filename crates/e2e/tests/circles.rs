//! No circle between the files of a crate: a file that uses another is never used by it, directly or through others.
//!
//! File A uses file B if A names an item that B defines. Names are followed through modules, imports and re-exports to the file with
//! the definition, so it doesn't matter through which module an item is reached. These don't count as use:
//!
//! - `mod child;` and re-exports (`pub use child::Item`): they make the module tree and its interface. A file that also needs the
//!   re-exported item itself uses it.
//! - Naming a module, without an item of it.
//! - Calls of methods, which name no file.
//! - Code for tests (`#[cfg(test)]`).
//!
//! So a module's main file and its child form a circle if each needs an item that the other defines. The remedy: the item that both
//! need gets a file of its own below them.
//!
//! The page's modules follow the same rule, between files and between folders.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

#[test]
fn files_of_a_crate_use_each_other_in_one_direction() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut wrong = String::new();
    for folder in fs::read_dir(crates).unwrap().map(|entry| entry.unwrap().path()) {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let roots = ["lib.rs", "main.rs"].map(|root| folder.join("src").join(root));
        let found = roots.iter().filter(|root| root.exists()).flat_map(|root| circles(root));
        found.for_each(|circle| wrong += &format!("{name}: {circle}\n"));
    }
    assert!(wrong.is_empty(), "files that use each other:\n{wrong}");
}

#[test]
fn circle_through_a_reexport_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    write("lib.rs", "mod a;\nmod b;\npub use a::A;\n");
    write("a.rs", "use crate::b::B;\npub struct A(B);\n");
    write("b.rs", "#[cfg(test)]\nuse crate::a;\npub struct B(Option<Box<crate::A>>);\n");
    assert_eq!(circles(&folder.path().join("lib.rs")), ["b.rs → a.rs → b.rs"]);
    write("b.rs", "#[cfg(test)]\nuse crate::A;\npub struct B;\n");
    assert!(circles(&folder.path().join("lib.rs")).is_empty());
}

#[test]
fn page_files_and_folders_import_each_other_in_one_direction() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("listener/page");
    let mut files = Graph::new();
    add_scripts(&page, &page, &mut files);
    assert!(files.len() > 20, "no scripts found in {}", page.display());
    let folder = |file: &String| file.rsplit_once('/').map_or("page", |(folder, _)| folder).to_owned();
    let mut folders = Graph::new();
    for (file, imports) in &files {
        let others = imports.iter().map(folder).filter(|other| *other != folder(file));
        folders.entry(folder(file)).or_default().extend(others);
    }
    let found = [shortest_circles(&files), shortest_circles(&folders)].concat();
    assert!(found.is_empty(), "scripts that import each other:\n{}", found.join("\n"));
}

/// Adds the scripts in `folder` and below, by their paths in `page`, with what they import.
fn add_scripts(page: &Path, folder: &Path, graph: &mut Graph) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            add_scripts(page, &path, graph);
        } else if path.extension().is_some_and(|extension| extension == "js") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with(['*', '/']));
            let imports = code.filter_map(|line| line.split_once(" from '.").or_else(|| line.split_once("import '.")));
            let target = |(_, target): (&str, &str)| {
                let relative = format!(".{}", target.split('\'').next().unwrap());
                resolved(path.parent().unwrap().strip_prefix(page).unwrap(), &relative)
            };
            let name = path.strip_prefix(page).unwrap().to_str().unwrap().to_owned();
            graph.insert(name, imports.map(target).collect());
        }
    }
}

/// Returns the path that `relative` names, seen from `folder`.
fn resolved(folder: &Path, relative: &str) -> String {
    let mut parts: Vec<&str> = folder.to_str().unwrap().split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// For each node, the nodes that it uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Returns the circles between the files of the crate with this root.
fn circles(root: &Path) -> Vec<String> {
    let mut files = Files::default();
    files.add(root, None);
    let folder = root.parent().unwrap();
    let shown = |file: usize| files.0[file].path.strip_prefix(folder).unwrap().display().to_string();
    let uses = |file: usize| (shown(file), files.used_by(file).into_iter().map(shown).collect());
    shortest_circles(&(0..files.0.len()).map(uses).collect())
}

/// Returns the shortest circle through each node that is in one.
fn shortest_circles(graph: &Graph) -> Vec<String> {
    let circles = graph.keys().filter_map(|node| shortest_circle(graph, node));
    let by_members: BTreeMap<BTreeSet<&str>, Vec<&str>> =
        circles.map(|circle| (circle.iter().copied().collect(), circle)).collect();
    by_members.into_values().map(|circle| [&circle[..], &circle[..1]].concat().join(" → ")).collect()
}

fn shortest_circle<'a>(graph: &'a Graph, start: &'a str) -> Option<Vec<&'a str>> {
    let mut from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for used in graph.get(node).into_iter().flatten() {
            if used == start {
                let mut circle: Vec<&str> = std::iter::successors(Some(node), |node| from.get(node).copied()).collect();
                circle.reverse();
                return Some(circle);
            }
            if !from.contains_key(used.as_str()) {
                from.insert(used, node);
                queue.push_back(used);
            }
        }
    }
    None
}

/// A path such as `crate::http::Head`, in its parts.
type Name = Vec<String>;

/// A source file, which is one module.
#[derive(Default)]
struct File {
    path: PathBuf,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    /// For each imported or re-exported name, the full name of the item.
    imports: BTreeMap<String, Name>,
    globs: Vec<Name>,
    /// Names in the code, and imports that are not re-exports.
    names: BTreeSet<Name>,
    modules: Vec<String>,
}

#[derive(Default)]
struct Files(Vec<File>);

impl Files {
    /// Reads a file and those of its child modules.
    fn add(&mut self, path: &Path, parent: Option<usize>) -> usize {
        let syntax = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
        let mut file = File { path: path.to_owned(), parent, ..File::default() };
        file.visit_file(&syntax);
        let modules = std::mem::take(&mut file.modules);
        let number = self.0.len();
        self.0.push(file);
        let folder = match path.file_stem().unwrap().to_str().unwrap() {
            "lib" | "main" | "mod" => path.parent().unwrap().to_owned(),
            _ => path.with_extension(""),
        };
        for module in modules {
            let [flat, folder] = [folder.join(format!("{module}.rs")), folder.join(&module).join("mod.rs")];
            let child = self.add(if flat.exists() { &flat } else { &folder }, Some(number));
            self.0[number].children.insert(module, child);
        }
        number
    }

    fn used_by(&self, file: usize) -> BTreeSet<usize> {
        let names = self.0[file].names.iter();
        names.filter_map(|name| self.definition(file, name, 0)).filter(|used| *used != file).collect()
    }

    /// Returns the file that defines what `name` stands for in `file`; `None` for a module, and for what another crate defines.
    fn definition(&self, file: usize, name: &[String], depth: usize) -> Option<usize> {
        let (first, rest) = name.split_first()?;
        let at = &self.0[file];
        match first.as_str() {
            _ if depth > 16 => None,
            "crate" => self.definition(0, rest, depth + 1),
            "self" => self.definition(file, rest, depth + 1),
            "super" => self.definition(at.parent?, rest, depth + 1),
            first => {
                if let Some(&child) = at.children.get(first) {
                    return self.definition(child, rest, depth + 1);
                }
                if at.items.contains(first) {
                    return Some(file);
                }
                let import = at.imports.get(first).map(|import| [import, rest].concat());
                let globs = at.globs.iter().map(|glob| [glob, name].concat());
                import.into_iter().chain(globs).find_map(|name| self.definition(file, &name, depth + 1))
            }
        }
    }
}

impl File {
    fn import(&mut self, tree: &syn::UseTree, prefix: &[String], is_reexport: bool) {
        let with = |ident: &syn::Ident| match ident.to_string().as_str() {
            "self" if !prefix.is_empty() => prefix.to_vec(),
            ident => [prefix, &[ident.to_owned()]].concat(),
        };
        let (alias, name) = match tree {
            syn::UseTree::Path(path) => return self.import(&path.tree, &with(&path.ident), is_reexport),
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|item| self.import(item, prefix, is_reexport));
            }
            syn::UseTree::Glob(_) => return self.globs.push(prefix.to_vec()),
            syn::UseTree::Name(name) => (with(&name.ident).last().unwrap().clone(), with(&name.ident)),
            syn::UseTree::Rename(rename) => (rename.rename.to_string(), with(&rename.ident)),
        };
        if !is_reexport {
            self.names.insert(name.clone());
        }
        if name != [alias.clone()] {
            self.imports.insert(alias, name);
        }
    }

    /// Adds the names in a macro's arguments, which `syn` doesn't parse.
    fn add_tokens(&mut self, tokens: proc_macro2::TokenStream) {
        // `colon`: the previous token is the first colon of `::`. `continues`: both colons of `::` were read.
        let (mut name, mut colon, mut continues) = (Name::new(), false, false);
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Ident(ident) => {
                    if !continues {
                        self.names.insert(std::mem::take(&mut name));
                    }
                    name.push(ident.to_string());
                    continues = false;
                }
                proc_macro2::TokenTree::Punct(punct) => {
                    continues = colon && punct.as_char() == ':';
                    colon = punct.as_char() == ':' && punct.spacing() == proc_macro2::Spacing::Joint;
                }
                proc_macro2::TokenTree::Group(group) => self.add_tokens(group.stream()),
                proc_macro2::TokenTree::Literal(_) => continues = false,
            }
        }
        self.names.insert(name);
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    let is_test = |attribute: &syn::Attribute| {
        let is_cfg = attribute.path().is_ident("cfg");
        is_cfg && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    };
    attributes.iter().any(is_test)
}

impl<'a> Visit<'a> for File {
    fn visit_item(&mut self, item: &'a syn::Item) {
        let (name, attributes) = match item {
            syn::Item::Const(item) => (Some(&item.ident), &item.attrs),
            syn::Item::Enum(item) => (Some(&item.ident), &item.attrs),
            syn::Item::Fn(item) => (Some(&item.sig.ident), &item.attrs),
            syn::Item::Impl(item) => (None, &item.attrs),
            syn::Item::Macro(item) => (item.ident.as_ref(), &item.attrs),
            syn::Item::Mod(item) => (item.content.as_ref().map(|_| &item.ident), &item.attrs),
            syn::Item::Static(item) => (Some(&item.ident), &item.attrs),
            syn::Item::Struct(item) => (Some(&item.ident), &item.attrs),
            syn::Item::Trait(item) => (Some(&item.ident), &item.attrs),
            syn::Item::Type(item) => (Some(&item.ident), &item.attrs),
            syn::Item::Union(item) => (Some(&item.ident), &item.attrs),
            syn::Item::Use(item) => (None, &item.attrs),
            item => return visit::visit_item(self, item),
        };
        if is_for_tests(attributes) {
            return;
        }
        self.items.extend(name.map(ToString::to_string));
        match item {
            syn::Item::Use(item) => {
                self.import(&item.tree, &[], !matches!(item.vis, syn::Visibility::Inherited));
            }
            // A module with the attribute `path` is a file of another crate.
            syn::Item::Mod(item) if item.attrs.iter().any(|attribute| attribute.path().is_ident("path")) => {}
            syn::Item::Mod(item) if item.content.is_none() => self.modules.push(item.ident.to_string()),
            item => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        self.names.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}
