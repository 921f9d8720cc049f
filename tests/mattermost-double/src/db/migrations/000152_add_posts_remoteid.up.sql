ALTER TABLE posts ADD COLUMN remoteid varchar(26) NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN lastlogin bigint NOT NULL DEFAULT 0;
UPDATE users SET lastlogin = createat
