//! Where this checkout lies and what it holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use images::lock::Lock;
use images::spec::Spec;
use images::{Class, Error, Result};

use crate::bundle::apply::Applied;

/// The checkout: every path of it is made here.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
}

fn is_checkout(folder: &Path) -> bool {
    folder.join("images/src/lock.rs").is_file()
}

impl Workspace {
    /// The checkout that cargo runs, else the one that the current folder is in.
    pub fn find() -> Result<Self> {
        let here = std::env::current_dir()?;
        let found = Self::above(&here, is_checkout);
        found.ok_or_else(|| {
            let error = Error::new(Class::Usage, format!("{} is not inside a checkout of this project", here.display()));
            match Self::home() {
                Ok(home) => error
                    .detail(format!("in {} a bundle was applied, which brings no sources", home.root.display()))
                    .hint("run it where the bundle was made"),
                Err(_) => error.hint("run it from the folder that holds Cargo.toml and images/"),
            }
        })
    }

    /// Where a site is at home: a checkout, or the folder that a bundle was applied to; else the folder that this program came in.
    pub fn home() -> Result<Self> {
        let here = std::env::current_dir()?;
        let of_program = || {
            let program = std::env::current_exe().ok()?;
            program.ancestors().find(|folder| Applied::is(folder)).map(|root| Workspace { root: root.to_owned() })
        };
        Self::above(&here, |folder| is_checkout(folder) || Applied::is(folder)).or_else(of_program).ok_or_else(|| {
            Error::new(
                Class::Usage,
                format!("{} is neither inside a checkout of this project nor where a bundle was applied", here.display()),
            )
            .hint("run it from the folder that holds Cargo.toml and images/, or from the one that `bundle apply` named")
        })
    }

    fn above(here: &Path, is: impl Fn(&Path) -> bool) -> Option<Self> {
        let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let starts = by_cargo.iter().map(PathBuf::as_path).chain([here]);
        starts.flat_map(Path::ancestors).find(|folder| is(folder)).map(|root| Workspace { root: root.to_owned() })
    }

    /// The bundle that was applied here; none in a checkout.
    pub fn applied(&self) -> Option<Applied> {
        Applied::is(&self.root).then(|| Applied::new(&self.root))
    }

    /// The checkout whose top folder is `root`.
    pub fn at(root: &Path) -> Self {
        Workspace { root: root.to_owned() }
    }

    /// The top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `images/lock.json`.
    pub fn lock(&self) -> PathBuf {
        self.root.join("images/lock.json")
    }

    /// The folder of an image: its `image.toml` and local files.
    pub fn image(&self, name: &str) -> PathBuf {
        self.root.join("images").join(name)
    }

    /// Names of all images, sorted: the folders of `images/` that hold an `image.toml`.
    pub fn image_names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs_err::read_dir(self.root.join("images"))? {
            let entry = entry?;
            if entry.path().join("image.toml").is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The lock, read.
    pub fn read_lock(&self) -> Result<Lock> {
        Lock::parse(&fs_err::read_to_string(self.lock())?, "images/lock.json")
    }

    /// The specs of `names`, or of every image where none is named. An unknown name is an error that lists the known ones.
    pub fn read_specs(&self, names: &[String]) -> Result<BTreeMap<String, Spec>> {
        let known = self.image_names()?;
        if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
            return Err(Error::new(Class::Usage, format!("there is no image \"{unknown}\""))
                .detail(format!("expected one of: {}", known.join(", "))));
        }
        let wanted = if names.is_empty() { &known } else { names };
        let read = |name: &String| {
            let text = fs_err::read_to_string(self.image(name).join("image.toml"))?;
            Ok((name.clone(), Spec::parse(&text, &format!("images/{name}/image.toml"))?))
        };
        wanted.iter().map(read).collect()
    }

    /// `target/`: everything that is made.
    pub fn target(&self) -> PathBuf {
        self.root.join("target")
    }
}
