//! One interface to look into whatever store a mount stands on, past notefs.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::s3::{Metadata, S3Client};
use crate::scratch;
use crate::server::{Kind, Server};

/// A fresh store for one test.
#[derive(Clone, Debug)]
pub struct Store {
    /// What `notefs mount` is given.
    pub url: String,
    /// The environment that carries the credentials.
    pub env: Vec<(String, String)>,
    raw: Raw,
}

#[derive(Clone, Debug)]
enum Raw {
    S3(S3Client),
    Folder(PathBuf),
}

impl Store {
    /// A new bucket on ministack.
    pub fn ministack() -> Result<Store> {
        Store::s3(Server::shared(Kind::Ministack)?.new_bucket()?)
    }

    /// A new bucket on SeaweedFS.
    pub fn weed() -> Result<Store> {
        Store::s3(Server::shared(Kind::Weed)?.new_bucket()?)
    }

    /// A new folder as an `fs://` store.
    pub fn folder() -> Result<Store> {
        let folder = scratch::folder("store")?;
        Ok(Store {
            url: format!("fs://{}", folder.display()),
            env: vec![],
            raw: Raw::Folder(folder),
        })
    }

    /// A bucket that exists, as a store.
    pub fn s3(client: S3Client) -> Result<Store> {
        let url = format!(
            "s3://{}?endpoint=http://{}&region=us-east-1",
            client.bucket, client.address
        );
        let keys = &client.credentials;
        let env = vec![
            ("AWS_ACCESS_KEY_ID".into(), keys.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY".into(), keys.secret_key.clone()),
        ];
        Ok(Store {
            url,
            env,
            raw: Raw::S3(client),
        })
    }

    /// The same store, reached through another address (a proxy); the raw access stays direct.
    pub fn via(&self, address: std::net::SocketAddr) -> Result<Store> {
        let client = self.client()?;
        let url = self.url.replace(&client.address.to_string(), &address.to_string());
        Ok(Store { url, ..self.clone() })
    }

    /// The S3 client underneath.
    pub fn client(&self) -> Result<&S3Client> {
        match &self.raw {
            Raw::S3(client) => Ok(client),
            Raw::Folder(_) => anyhow::bail!("a folder store has no S3 client"),
        }
    }

    /// Stores an object as another tool would.
    pub fn put(&self, key: &str, body: &[u8]) -> Result<()> {
        match &self.raw {
            Raw::S3(client) => client.put(key, body),
            Raw::Folder(folder) => {
                let path = folder.join(key);
                std::fs::create_dir_all(path.parent().context("key without a parent")?)?;
                Ok(std::fs::write(path, body)?)
            }
        }
    }

    /// An object's bytes.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match &self.raw {
            Raw::S3(client) => client.get(key),
            Raw::Folder(folder) => match std::fs::read(folder.join(key)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// An S3 object's user metadata.
    pub fn head(&self, key: &str) -> Result<Option<Metadata>> {
        self.client()?.head(key)
    }

    /// Removes an object.
    pub fn delete(&self, key: &str) -> Result<()> {
        match &self.raw {
            Raw::S3(client) => client.delete(key),
            Raw::Folder(folder) => Ok(std::fs::remove_file(folder.join(key))?),
        }
    }

    /// The keys of all notes, without notefs's own objects and directory markers.
    pub fn keys(&self) -> Result<Vec<String>> {
        let mut keys = self.all_keys()?;
        keys.retain(|key| !key.starts_with(".notefs/") && !key.ends_with('/'));
        Ok(keys)
    }

    /// Every key there is.
    pub fn all_keys(&self) -> Result<Vec<String>> {
        match &self.raw {
            Raw::S3(client) => Ok(client.list("")?.into_iter().map(|object| object.key).collect()),
            Raw::Folder(folder) => {
                let tree = crate::tree::Tree::read(folder)?;
                let files = tree
                    .entries
                    .iter()
                    .filter(|(_, entry)| entry.kind == crate::tree::Kind::File);
                Ok(files.map(|(path, _)| path.to_string_lossy().into_owned()).collect())
            }
        }
    }
}
