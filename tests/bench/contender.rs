//! Who is measured: forks of a Spark, and what they are compared with.

use std::time::{Duration, Instant};

use futures::future::try_join_all;

/// Between two looks at a pool.
const PAUSE: Duration = Duration::from_millis(100);
/// After a pool was filled again by one.
const REST: Duration = Duration::from_millis(300);
/// After a pool was filled.
const QUIET: Duration = Duration::from_secs(2);

/// Something that is started from a pool of warm pods.
pub trait Contender {
    /// Its own programs, as the kernel names them, and what people call them.
    const PROGRAMS: &[(&str, &str)];

    /// The size that the pool shall have.
    async fn resize(&self, size: usize) -> anyhow::Result<()>;

    /// Whether the pool has just so many warm pods, and no pod starts or ends.
    async fn is_full(&self, size: usize) -> anyhow::Result<bool>;

    /// From the moment before the POST until the watch showed it Ready.
    async fn start(&self, name: &str) -> anyhow::Result<Duration>;

    /// Asks for their end.
    async fn delete(&self, names: &[String]) -> anyhow::Result<()>;

    /// Fills the pool and waits until all is quiet.
    async fn fill(&self, size: usize) -> anyhow::Result<()> {
        self.resize(size).await?;
        self.until_full(size).await?;
        tokio::time::sleep(QUIET).await;
        Ok(())
    }

    /// Waits until the pool is full.
    async fn until_full(&self, size: usize) -> anyhow::Result<()> {
        while !self.is_full(size).await? {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Starts one, and waits until the pool of this size is full again, so that this is not measured with what comes next.
    async fn start_and_refill(&self, name: &str, size: usize) -> anyhow::Result<Duration> {
        let took = self.start(name).await?;
        self.until_full(size).await?;
        tokio::time::sleep(REST).await;
        Ok(took)
    }

    /// Starts all of them at once, and deletes them: how long each took, and all.
    async fn burst(&self, names: &[String]) -> anyhow::Result<(Vec<Duration>, Duration)> {
        let start = Instant::now();
        let each = try_join_all(names.iter().map(|name| self.start(name))).await?;
        let all = start.elapsed();
        self.delete(names).await?;
        Ok((each, all))
    }
}

/// `count` names that nothing else has.
pub fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}-{i}")).collect()
}
