//! On a real Docker Swarm.

mod bed;
