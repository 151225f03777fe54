//! Many processes, and processes that are never the same.

use crate::stand::{Roll, Tickets, child, stay};
use crate::{Stands, c};

/// How deep the deep half of a crowd is.
const DEPTH: u32 = 25;

/// Its own ends of children are of no interest to it: nobody waits, nothing stays behind.
fn forget_children() {
    c::ignore(c::SIGCHLD);
}

pub fn comet(all: u32) -> Stands {
    forget_children();
    let roll = Roll::new()?;
    child(|| {
        roll.here();
        for _ in 0..all {
            c::setsid();
            if c::fork() > 0 {
                c::_exit(0);
            }
        }
    });
    roll.wait(1);
    Ok(())
}

pub fn bush(alive: u32, all: u32) -> Stands {
    forget_children();
    let roll = Roll::new()?;
    let (places, forks) = (Tickets::new(alive)?, Tickets::new(all)?);
    child(|| {
        loop {
            let lives = places.take();
            if !forks.take() {
                stay();
            }
            // The child of a fork with a place goes on forking beside its parent, any other ends at once.
            match c::fork() {
                0 if lives => roll.here(),
                0 => c::_exit(0),
                -1 => stay(),
                _ => {}
            }
        }
    });
    roll.wait(alive as usize);
    Ok(())
}

pub fn crowd(count: u32) -> Stands {
    let roll = Roll::new()?;
    let wide = count.div_ceil(2);
    for number in 0..wide {
        child(|| {
            if number % 3 == 0 {
                c::setsid();
            }
            roll.here();
        });
    }
    let mut deep = count - wide;
    while deep > 0 {
        let chain = deep.min(DEPTH);
        deep -= chain;
        child(|| link(chain - 1, &roll));
    }
    roll.wait(count as usize);
    Ok(())
}

/// One process of a chain, and the rest of it below.
fn link(below: u32, roll: &Roll) {
    if below % 10 == 5 {
        c::setsid();
    }
    roll.here();
    if below > 0 {
        child(|| link(below - 1, roll));
    }
}
