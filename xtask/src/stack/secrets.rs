//! How a secret reaches a container: in a small volume that is filled through the Engine's API, and nowhere else.

use std::collections::BTreeMap;

use images::{Digest, Result};

use crate::engine::project::VolumeFile;
use crate::site::env::{DATABASE_CA, environments};
use crate::site::model::PerService;
use crate::site::secrets::Secrets;
use crate::site::{Service, Site};

use super::Stack;
use super::start::{Image, Wanted};

/// Only the service's account reads it.
const MODE: u32 = 0o400;

/// What a service finds in `/run/secrets`: file name → content.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretFiles(pub BTreeMap<String, Vec<u8>>);

/// Names alone.
impl std::fmt::Debug for SecretFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl SecretFiles {
    /// The volume that holds exactly these files: another content is another volume. Among the files is a private key or a
    /// generated secret of full entropy, so that nobody finds a password by trying digests.
    pub fn volume(&self, site: &Site, service: Service) -> String {
        format!("{}_secrets-{}-{}", site.project, service.name(), self.digest())
    }

    /// Of each file, the name of the Swarm secret that holds it: another content of any is another name of all, for who has one file of
    /// low entropy in sight must not find it by trying digests. Swarm's names have at most 64 characters, so that of the file is no part.
    pub fn names(&self, site: &Site, service: Service) -> BTreeMap<String, String> {
        let digest = Digest::of(format!("{} {}", site.project, self.digest())).short();
        let name = |(number, file): (usize, &String)| (file.clone(), format!("{}-{digest}-{number:02}", service.name()));
        self.0.keys().enumerate().map(name).collect()
    }

    fn digest(&self) -> String {
        let mut all = Vec::new();
        for (name, content) in &self.0 {
            all.extend_from_slice(format!("{name} {}\n", content.len()).as_bytes());
            all.extend_from_slice(content);
        }
        Digest::of(all).short()
    }
}

/// The certificate and the key of a service, as its program calls them.
const fn tls(service: Service) -> (&'static str, &'static str) {
    match service {
        Service::Postgres => ("postgres-cert.pem", "postgres-key.pem"),
        Service::Coturn => ("turn-cert.pem", "turn-key.pem"),
        Service::AlertGateway => ("alert-gateway-cert.pem", "alert-gateway-key.pem"),
        Service::Mattermost => ("mattermost-cert.pem", "mattermost-key.pem"),
    }
}

impl Stack {
    /// What `secrets.env` holds now.
    pub fn secrets(&self) -> Result<Secrets> {
        Secrets::of(&self.folder)
    }

    /// What each service is to run with: settings; and in `/run/secrets` its secrets, its certificate and key.
    pub fn wanted(&self, secrets: &Secrets, images: PerService<Image>) -> Result<Wanted> {
        let mut settings = PerService::<BTreeMap<String, String>>::default();
        let mut all = PerService::<SecretFiles>::default();
        for (service, env) in environments(&self.site, secrets)? {
            settings.of_mut(service).extend(env.settings().map(|(name, value)| (name.to_owned(), value.to_owned())));
            let files = &mut all.of_mut(service).0;
            let (certificate, key) = tls(service);
            files.insert(certificate.to_owned(), fs_err::read(self.folder.certificate(service))?);
            files.insert(key.to_owned(), fs_err::read(self.folder.key(service))?);
            files.extend(env.secret_files().into_iter().map(|(name, content)| (name.to_owned(), content.expose().as_bytes().to_vec())));
        }
        let ca = self.site.database.external.as_ref().and_then(|external| external.ca.as_ref());
        if let (Some(ca), Some(name)) = (ca, DATABASE_CA.rsplit('/').next()) {
            all.mattermost.0.insert(name.to_owned(), fs_err::read(self.folder.root().join(ca))?);
        }
        Ok(Wanted { images, settings, secrets: all })
    }

    /// Makes the volume of a service's secrets and fills it, unless a container that runs has it: that one was filled to the end.
    pub fn ensure_secrets(&self, service: Service, image: &str, files: &SecretFiles) -> Result<String> {
        let volume = files.volume(&self.site, service);
        let in_use = self.containers()?.iter().any(|container| container.state == "running" && container.volumes.contains(&volume));
        if !in_use {
            let list: Vec<VolumeFile> = files.0.iter().map(|(name, content)| VolumeFile { name, mode: MODE, content }).collect();
            self.engine.fill_volume(self.project(), &volume, image, *self.site.accounts.of(service), &list)?;
        }
        Ok(volume)
    }

    /// Removes volumes of secrets that no container has any more.
    pub fn forget_old_secrets(&self) -> Result<()> {
        let used: Vec<String> = self.containers()?.into_iter().flat_map(|container| container.volumes).collect();
        let prefix = format!("{}_secrets-", self.project());
        for volume in self.engine.volumes(self.project())? {
            if volume.starts_with(&prefix) && !used.contains(&volume) {
                self.engine.remove_volume(&volume)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::parse;

    fn files(list: &[(&str, &str)]) -> SecretFiles {
        SecretFiles(list.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect())
    }

    #[test]
    fn another_content_or_another_name_is_another_volume() {
        let site = parse("site.toml", "format = 1\naddresses = [\"10.0.0.1\"]", || unreachable!()).unwrap();
        let name = |list| files(list).volume(&site, Service::Coturn);
        let one = name(&[("turn", "secret"), ("key", "k")]);
        assert_eq!(one, name(&[("key", "k"), ("turn", "secret")]));
        for other in [
            name(&[("turn", "Secret"), ("key", "k")]),
            name(&[("turn2", "secret"), ("key", "k")]),
            name(&[("turn", "secretk"), ("key", "")]),
        ] {
            assert_ne!(one, other);
        }
        assert!(one.starts_with("chatops_secrets-coturn-"), "{one}");
    }

    #[test]
    fn another_content_of_one_file_is_another_swarm_secret_for_each() {
        let site = |project: &str| {
            parse("site.toml", &format!("format = 1\nproject = \"{project}\"\naddresses = [\"10.0.0.1\"]"), || unreachable!()).unwrap()
        };
        let names = |project, list| files(list).names(&site(project), Service::AlertGateway);
        let long = "p".repeat(64);
        let one = names(&long, &[("turn", "secret"), ("key", "k")]);
        assert!(one.values().all(|name| name.len() <= 64 && name.starts_with("alert-gateway-")), "{one:?}");
        assert_eq!(one.keys().collect::<Vec<_>>(), ["key", "turn"]);
        for other in [names(&long, &[("turn", "secret"), ("key", "l")]), names("other", &[("turn", "secret"), ("key", "k")])] {
            assert!(other.iter().all(|(file, name)| one[file] != *name), "{one:?} {other:?}");
        }
    }

    #[test]
    fn no_secret_shows_in_debug_output() {
        assert_eq!(format!("{:?}", files(&[("turn", "geheim")])), "{\"turn\"}");
    }
}
