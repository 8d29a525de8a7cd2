//! Images: read-only bases that volumes are snapshots of.

use std::os::fd::OwnedFd;

use super::layout::{IMAGES, SUBVOLUME, Temporary, check_name};
use super::types::Image;
use super::{Pool, PoolError, Result};
use crate::btrfs::{self, SubvolumeId};

/// An image under construction. Dropping it deletes what was copied.
pub struct ImageBuilder<'pool> {
    pool: &'pool Pool,
    key: String,
    building: Temporary<'pool>,
    root: OwnedFd,
    subvol_id: SubvolumeId,
}

impl ImageBuilder<'_> {
    /// The empty subvolume to copy the image's files into.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Makes the image read-only and puts it in its place, on disk. If another builder was first, its image stays.
    pub fn commit(self, meta: serde_json::Value) -> Result<Image> {
        let image = Image { key: self.key.clone(), subvol_id: self.subvol_id, meta };
        self.building.write_record(&image)?;
        // The file data too: a commit alone leaves it in memory.
        rustix::fs::syncfs(&self.root).map_err(PoolError::io("write out", format!("image {}", self.key)))?;
        btrfs::set_read_only(&self.root, true)?;
        if !self.building.publish(&format!("{IMAGES}/{}", self.key))? {
            return self.pool.existing_image(&self.key);
        }
        self.pool.commit()?;
        Ok(image)
    }

    /// Deletes what was copied. Dropping the builder does the same.
    pub fn abort(self) {}
}

impl Pool {
    /// Begins an image. [`image`](Self::image) tells whether it is there already.
    ///
    /// # Errors
    /// [`PoolError::Full`] below the reserve.
    pub fn begin_image(&self, key: &str) -> Result<ImageBuilder<'_>> {
        check_name("image", key)?;
        self.check_headroom()?;
        let building = self.new_temporary(key)?;
        let subvol_id = btrfs::create_subvolume(building.directory(), SUBVOLUME)?;
        let root = btrfs::open_subvolume(&self.root, subvol_id)?;
        Ok(ImageBuilder { pool: self, key: key.to_owned(), building, root, subvol_id })
    }

    /// One image; `None` if it isn't here.
    pub fn image(&self, key: &str) -> Result<Option<Image>> {
        check_name("image", key)?;
        self.read_record(&format!("{IMAGES}/{key}"))
    }

    /// All images.
    pub fn images(&self) -> Result<Vec<Image>> {
        let keys = self.entries(IMAGES)?;
        keys.iter().filter_map(|key| self.image(key).transpose()).collect()
    }

    /// Deletes an image; does nothing if there is none. Volumes made from it keep their blocks.
    pub fn remove_image(&self, key: &str) -> Result<()> {
        if self.image(key)?.is_none() {
            return Ok(());
        }
        self.delete_published(&format!("{IMAGES}/{key}"))?;
        self.commit()
    }

    fn existing_image(&self, key: &str) -> Result<Image> {
        self.image(key)?.ok_or_else(|| PoolError::NoImage { key: key.to_owned() })
    }
}
