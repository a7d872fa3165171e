//! The harness itself: both servers, the client, the proxy and its faults, before anything is said about notefs.

use std::time::Duration;

use anyhow::{Result, ensure};
use notefs_tests::{Class, Fault, Proxy, Store, scratch, tree::Tree, vault};

fn keeps_objects(store: &Store) -> Result<()> {
    let client = store.client()?;
    let metadata = [("mtime".to_owned(), "1.5".to_owned())].into();
    client.put_with("ideas/a b+c%é.md", b"hello", &metadata)?;
    client.put("ideas/z.md", &vec![7; 300_000])?;
    ensure!(
        client.get("ideas/a b+c%é.md")?.as_deref() == Some(b"hello"),
        "content differs"
    );
    ensure!(client.head("ideas/a b+c%é.md")? == Some(metadata), "metadata differs");
    ensure!(
        client.get("nothing")?.is_none() && client.head("nothing")?.is_none(),
        "found what is not there"
    );
    ensure!(
        store.keys()? == ["ideas/a b+c%é.md", "ideas/z.md"],
        "listed {:?}",
        store.keys()?
    );
    client.delete("ideas/z.md")?;
    ensure!(client.list("ideas/")?.len() == 1, "still listed after the deletion");
    Ok(())
}

#[test]
fn ministack_keeps_objects() -> Result<()> {
    keeps_objects(&Store::ministack()?)
}

#[test]
fn weed_keeps_objects() -> Result<()> {
    keeps_objects(&Store::weed()?)
}

#[test]
fn a_long_listing_is_complete() -> Result<()> {
    let store = Store::ministack()?;
    let files: Vec<_> = (0..1_100)
        .map(|n| vault::VaultFile {
            path: format!("k{n:04}"),
            bytes: vec![],
        })
        .collect();
    vault::put_to(&files, &store)?;
    ensure!(store.keys()?.len() == 1_100, "listed {}", store.keys()?.len());
    Ok(())
}

#[test]
fn proxy_counts_and_spoils_requests() -> Result<()> {
    let direct = Store::ministack()?.client()?.clone();
    let proxy = Proxy::start(direct.address)?;
    let mut client = direct.clone();
    client.address = proxy.address();
    client.put("a b.md", b"one")?;
    ensure!(
        client.get("a b.md")?.as_deref() == Some(b"one"),
        "the proxy changed the content"
    );
    client.list("")?;
    client.head("a b.md")?;
    let counts = [Class::Put, Class::Get, Class::List, Class::Head, Class::Delete].map(|class| proxy.count(class));
    ensure!(counts == [1, 1, 1, 1, 0], "counted {counts:?}: {:?}", proxy.log());
    ensure!(proxy.changes() == ["Put a b.md"], "changes {:?}", proxy.changes());
    proxy.set_fault_on(Class::Put, Fault::DropReply);
    ensure!(
        client.put("a b.md", b"two").is_err(),
        "a dropped reply looked like an answer"
    );
    ensure!(
        client.get("a b.md")?.as_deref() == Some(b"two"),
        "the server did not do the work"
    );
    for fault in [Fault::Unavailable, Fault::Reset] {
        proxy.set_fault(fault);
        ensure!(
            client.put("a b.md", b"three").is_err(),
            "{fault:?} let the request through"
        );
    }
    ensure!(
        direct.get("a b.md")?.as_deref() == Some(b"two"),
        "a refused request reached the server"
    );
    proxy.set_fault(Fault::None);
    proxy.set_latency(Duration::from_millis(150));
    let start = std::time::Instant::now();
    client.get("a b.md")?;
    ensure!(start.elapsed() >= Duration::from_millis(150), "no latency");
    Ok(())
}

#[test]
fn tree_differences_are_told() -> Result<()> {
    let (one, other) = (scratch::folder("tree")?, scratch::folder("tree")?);
    let files = vault::generate(20, 1);
    vault::write_to(&files, &one)?;
    vault::write_to(&vault::generate(20, 1), &other)?;
    let facts = ["mtime", "folder mtime", "same inode as"];
    let read = |folder| Ok::<_, anyhow::Error>(Tree::read(folder)?.without(&facts));
    read(&one)?.assert_same(&read(&other)?, "same seed")?;
    std::fs::write(other.join(&files[0].path), "changed")?;
    std::fs::remove_file(other.join(&files[1].path))?;
    std::fs::write(other.join("extra"), "")?;
    let told = read(&one)?.differences(&read(&other)?);
    ensure!(told.len() == 4, "size, content, one gone, one new; told {told:?}");
    Ok(())
}
