//! What must stand in no report: the secrets of the run's site. They live as long as the run, and still nobody reads one here.

use std::path::Path;

use images::Result;

/// Shorter values are words that stand anywhere.
const SHORTEST: usize = 12;

/// The secrets of a site, with their names.
#[derive(Clone, Default)]
pub struct Hidden(Vec<(String, String)>);

impl Hidden {
    /// What `secrets.env` and the private keys of a site hold now.
    pub fn of_site(folder: &Path) -> Self {
        let text = fs_err::read_to_string(folder.join("secrets.env")).unwrap_or_default();
        let mut all = of_env(&text);
        for entry in fs_err::read_dir(folder.join("pki")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with("-key.pem") {
                let key = fs_err::read_to_string(entry.path()).unwrap_or_default();
                // Its first line is the same for every key of a kind.
                all.extend(key.lines().filter(|line| !line.starts_with("-----")).skip(1).map(|line| (name.clone(), line.to_owned())));
            }
        }
        all.retain(|(_, value)| value.len() >= SHORTEST);
        Hidden(all)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// One of them, for a case that trips the search.
    pub fn sample(&self) -> Option<&str> {
        self.0.first().map(|(_, value)| value.as_str())
    }

    /// The text with a name in each secret's place.
    pub fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(value.as_str(), &format!("[{name}]")))
    }

    /// Names of the secrets that stand in a text.
    pub fn found(&self, text: &str) -> Vec<&str> {
        self.0.iter().filter(|(_, value)| text.contains(value.as_str())).map(|(name, _)| name.as_str()).collect()
    }

    /// `file: secret` for each that stands in a file of a folder, at any depth.
    pub fn found_below(&self, folder: &Path, without: &Path) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            let path = entry?.path();
            if path == without {
                continue;
            }
            if path.is_dir() {
                found.extend(self.found_below(&path, without)?);
            } else if path.is_file() {
                let text = String::from_utf8_lossy(&fs_err::read(&path)?).into_owned();
                found.extend(self.found(&text).into_iter().map(|name| format!("{}: {name}", path.display())));
            }
        }
        Ok(found)
    }
}

fn of_env(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    // A webhook's address is a secret by its last part.
    lines.map(|(name, value)| (name.to_owned(), value.rsplit('/').next().unwrap_or(value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_and_replaced_by_its_name_in_any_file() {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("site");
        fs_err::create_dir_all(site.join("pki")).unwrap();
        fs_err::write(site.join("secrets.env"), "# none\nTURN=correct-horse-battery\nHOOK=https://a.b/hooks/abcdefghijklmnop\nSHORT=yes\n")
            .unwrap();
        fs_err::write(
            site.join("pki/ca-key.pem"),
            "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByq\nZm9vYmFyYmF6cXV4\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        let hidden = Hidden::of_site(&site);
        assert_eq!(hidden.count(), 3);
        assert_eq!(hidden.redact("to /hooks/abcdefghijklmnop: yes"), "to /hooks/[HOOK]: yes");
        fs_err::create_dir_all(folder.path().join("logs")).unwrap();
        fs_err::write(folder.path().join("logs/one"), "key Zm9vYmFyYmF6cXV4, correct-horse-battery").unwrap();
        let found = hidden.found_below(folder.path(), &site).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].ends_with("logs/one: TURN") && found[1].ends_with("logs/one: ca-key.pem"), "{found:?}");
    }
}
