//! What everyday work costs in requests to the store, counted by proxies, and in money.
//!
//! The prices are S3's list prices in us-east-1: $0.005 for 1,000 of PUT, COPY, POST and LIST, $0.0004 for 1,000 of GET and HEAD; DELETE is free.

use std::time::Duration;

use anyhow::Result;

use crate::{Class, Mount, MountOptions, PATIENCE, Proxy, Store, wait_until};

const DEAR_DOLLARS: f64 = 0.005 / 1_000.0;
const CHEAP_DOLLARS: f64 = 0.0004 / 1_000.0;

/// How long after a change a mount still has something to tell.
const REST: Duration = Duration::from_secs(4);

/// Requests by their price.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Requests {
    /// PUT, COPY, POST.
    pub writes: f64,
    /// LIST.
    pub lists: f64,
    /// GET and HEAD.
    pub reads: f64,
    /// DELETE.
    pub deletes: f64,
}

impl Requests {
    fn seen(proxies: &[Proxy]) -> Requests {
        let count = |classes: &[Class]| {
            let all = proxies
                .iter()
                .flat_map(|proxy| classes.iter().map(|class| proxy.count(*class)));
            all.sum::<u64>() as f64
        };
        Requests {
            writes: count(&[Class::Put, Class::Copy, Class::Other]),
            lists: count(&[Class::List]),
            reads: count(&[Class::Get, Class::Head]),
            deletes: count(&[Class::Delete]),
        }
    }

    /// The same, so many times.
    pub fn times(self, factor: f64) -> Requests {
        Requests {
            writes: self.writes * factor,
            lists: self.lists * factor,
            reads: self.reads * factor,
            deletes: self.deletes * factor,
        }
    }

    /// What they cost.
    pub fn dollars(self) -> f64 {
        (self.writes + self.lists) * DEAR_DOLLARS + self.reads * CHEAP_DOLLARS
    }

    /// All of them.
    pub fn total(self) -> f64 {
        self.writes + self.lists + self.reads + self.deletes
    }
}

/// Machines that mount one bucket, each through a proxy of its own.
#[derive(Debug)]
pub struct Machines {
    /// The mounts.
    pub mounts: Vec<Mount>,
    proxies: Vec<Proxy>,
}

impl Machines {
    /// Mounts `store` so many times, with default options, and lets all come to rest.
    pub fn start(store: &Store, count: usize) -> Result<Machines> {
        let server = store.client()?.address;
        let proxies = (0..count).map(|_| Proxy::start(server)).collect::<Result<Vec<_>>>()?;
        let mount = |proxy: &Proxy| Mount::start_with(&store.via(proxy.address())?, MountOptions::default());
        let mounts = proxies.iter().map(mount).collect::<Result<Vec<_>>>()?;
        let machines = Machines { mounts, proxies };
        std::fs::write(machines.mounts[0].path("first.md"), "first\n")?;
        for mount in &machines.mounts {
            wait_until("first note", PATIENCE, || {
                std::fs::read(mount.path("first.md"))
                    .map(drop)
                    .map_err(|error| error.to_string())
            })?;
        }
        machines.rest()?;
        Ok(machines)
    }

    /// Waits until all is stored and told.
    fn rest(&self) -> Result<()> {
        self.mounts.iter().try_for_each(Mount::settle)?;
        std::thread::sleep(REST);
        self.mounts.iter().try_for_each(Mount::settle)
    }

    /// What all machines ask for within this time, by themselves.
    pub fn idle(&self, time: Duration) -> Requests {
        self.proxies.iter().for_each(Proxy::forget);
        std::thread::sleep(time);
        Requests::seen(&self.proxies)
    }

    /// What some work of the first machine costs it, until all is stored and told. What looking costs while it waits is in it.
    pub fn work(&self, work: impl FnOnce(&Mount) -> Result<()>) -> Result<Requests> {
        self.proxies[0].forget();
        work(&self.mounts[0])?;
        self.mounts[0].settle()?;
        std::thread::sleep(REST);
        Ok(Requests::seen(&self.proxies[..1]))
    }
}

/// Saves so many notes one after the other, each stored and told before the next.
pub fn save_notes(machines: &Machines, count: usize) -> Result<Requests> {
    let mut sum = Requests::default();
    for number in 0..count {
        let one = machines.work(|mount| Ok(std::fs::write(mount.path("note.md"), format!("save {number}\n"))?))?;
        sum = Requests {
            writes: sum.writes + one.writes,
            lists: sum.lists + one.lists,
            reads: sum.reads + one.reads,
            deletes: sum.deletes + one.deletes,
        };
    }
    Ok(sum.times(1.0 / count as f64))
}
