//! A key that is replaced while the bucket is mounted: in the server first, then in the file that the daemon has read.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use notefs_tests::mount::owed;
use notefs_tests::server::{Kind, Server};
use notefs_tests::sigv4::Credentials;
use notefs_tests::{Mount, MountOptions, PATIENCE, Store, scratch, wait_until};

/// A store whose credentials come from a profile file, and the file.
fn store_with_a_profile(server: &Server) -> Result<(Store, PathBuf)> {
    let file = scratch::folder("aws")?.join("credentials");
    write_profile(&file, server.credentials())?;
    let mut store = Store::s3(server.new_bucket()?)?;
    store.env.retain(|(name, _)| !name.starts_with("AWS_"));
    store.env.extend([
        ("AWS_SHARED_CREDENTIALS_FILE".to_owned(), file.display().to_string()),
        ("AWS_REGION".to_owned(), "us-east-1".to_owned()),
    ]);
    Ok((store, file))
}

/// As tools do it that rotate keys: a new file in the place of the old one.
fn write_profile(file: &Path, credentials: &Credentials) -> Result<()> {
    let text = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        credentials.access_key, credentials.secret_key
    );
    let draft = file.with_extension("draft");
    std::fs::write(&draft, text)?;
    Ok(std::fs::rename(draft, file)?)
}

#[test]
fn a_replaced_key_is_read_without_a_remount() -> Result<()> {
    let mut server = Server::start(Kind::Weed)?;
    let (store, file) = store_with_a_profile(&server)?;
    let mount = Mount::start_with(&store, MountOptions::default())?;
    std::fs::write(mount.path("before.md"), "before\n")?;
    mount.drain()?;
    let replaced = Credentials {
        access_key: "anotherkey".into(),
        secret_key: "another-test-secret".into(),
    };
    server.replace_key(&replaced)?;
    std::fs::write(mount.path("during.md"), "during\n")?;
    wait_until("status that tells of the refused key", PATIENCE, || {
        let status = mount.status().map_err(|error| format!("{error:#}"))?;
        let told = status["last_error"]["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty());
        if told && owed(&status) == Some(1) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })?;
    write_profile(&file, &replaced)?;
    mount.settle()?;
    let client = notefs_tests::s3::S3Client {
        credentials: replaced,
        ..store.client()?.clone()
    };
    ensure!(client.get("during.md")?.as_deref() == Some(b"during\n".as_slice()));
    client.put("after.md", b"after\n")?;
    wait_until("note of another tool", PATIENCE, || {
        match std::fs::read_to_string(mount.path("after.md")) {
            Ok(text) if text == "after\n" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}
