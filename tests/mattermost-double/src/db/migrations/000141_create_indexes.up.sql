CREATE INDEX idx_posts_channel_id_seq ON posts (channelid, seq);
CREATE INDEX idx_posts_update_at ON posts (updateat);
CREATE INDEX idx_sessions_user_id ON sessions (userid);
CREATE INDEX idx_incoming_webhook_team_id ON incomingwebhooks (teamid);
CREATE INDEX idx_fileinfo_postid_at ON fileinfo (postid)
